"""RAR, a decoder-only transformer that predicts image tokens, trained in random orders.

The network of "Randomized Autoregressive Visual Generation"
(https://github.com/bytedance/1d-tokenizer, modeling/rar.py), with the parameter names of its
released checkpoints. Its tokens are those of `maskgit_vq`. Dropout, which its training had, is
absent.

An image is n = grid**2 tokens; an order o is a permutation of its n positions. The network reads

    position   0          1      2       3            n
    token      cls_token  class  x(o_1)  x(o_2)  ...  x(o_{n-1})
    told next             o_1    o_2     o_3     ...  o_n

and its output at position i is the distribution of x(o_i) given the class and x(o_1) ..
x(o_{i-1}). The official sequence ends with one more token, x(o_n), which nothing that counts
ever attends to: it is left out.

The official scripts switch TF32 on and take log(softmax), which is -inf where it underflows;
here the products are in the network's own dtype and the log-softmax in float32.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.tokens import TokenPredictor, wide_product

# Rows of the released tables beyond those that n tokens need; never used.
SPARE_POSITIONS, SPARE_STEPS = 1024, 100


@dataclass(frozen=True)
class RARConfig:
    """Shape of a RAR; `RARConfig(24, 16, 1024, 4096)` is the released RAR-L."""

    layers: int
    heads: int
    width: int
    hidden: int  # width inside the feed-forward
    vocabulary: int = 1024
    grid: int = 16  # tokens along one side of the image
    classes: int = 1000  # the table has one row more: the null class, for training

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.width, self.hidden, self.vocabulary)
        if min(*sizes, self.grid, self.classes) < 1:
            raise ValueError(f"RAR: every size must be at least 1, got {self}")
        if self.width % self.heads:
            raise ValueError(f"RAR: width {self.width} must be a multiple of heads {self.heads}")

    @property
    def tokens(self) -> int:
        """Image tokens, n."""
        return self.grid**2

    @property
    def first_class(self) -> int:
        """Row of class 0 in the table of embeddings: after the codes and an unused mask token."""
        return self.vocabulary + 1


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """All [b, positions, width]: unlike in DiT, every position has its own shift and scale."""
    return x * (1 + scale) + shift


class Attention(nn.Module):
    """Causal self-attention; queries and keys are normalised head by head."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.heads = config.heads
        head = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.q_norm = nn.LayerNorm(head, eps=1e-6)
        self.k_norm = nn.LayerNorm(head, eps=1e-6)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        q, k, v = qkv.unbind(2)  # [b, heads, positions, head]
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, is_causal=True)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """Two layers, GELU between."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return hidden


class Block(nn.Module):
    """Transformer block that class and position shift, scale and gate."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = FeedForward(config)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x: [b or 1, positions, width]; conditioning: [b, positions, width], which x becomes."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(conditioning).chunk(
            6, dim=-1
        )
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalModulation(nn.Module):
    """What class and position do to the head's input."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        # Scale first: the other way round than in the blocks.
        scale, shift = self.adaLN_modulation(conditioning).chunk(2, dim=-1)
        return modulate(F.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale)


class RAR(TokenPredictor):
    """RAR. Codes lie in raster order: the token decoded at step i of an order is codes[order[i]].

    Class `config.classes` is the null class.
    """

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config = config
        width, positions = config.width, config.tokens + SPARE_POSITIONS
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, positions, width))
        self.target_aware_pos_embed = nn.Parameter(torch.empty(1, positions, width))
        self.timesteps_embeddings = nn.Parameter(torch.empty(1, config.tokens + SPARE_STEPS, width))
        self.embeddings = nn.Embedding(config.first_class + config.classes + 1, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.adaln_before_head = FinalModulation(config)
        self.lm_head = nn.Linear(width, config.vocabulary)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def scoring_blocks(self) -> Iterable[nn.Module]:
        return self.blocks

    def head_logits(self, features: Tensor) -> Tensor:
        """In float32."""
        return wide_product(features, self.lm_head.weight) + self.lm_head.bias.float()

    def forward(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """Logits of every token, in order of decoding.

        codes, orders: [b, n] long; classes: [b] long -> [b, n, vocabulary] float32.
        """
        return self.head_logits(self._features(codes.gather(1, orders), orders, classes))

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, order: Tensor, classes: Tensor) -> Tensor:
        """log p(token | tokens before it, class) of one image in one order, for many classes.

        codes: [n] long; order: [m] long, a whole order or the first m places of one;
        classes: [c] long -> [c, m] float32, in order of decoding.
        """
        return self._log_probs_in_order(codes.unsqueeze(0), order.unsqueeze(0), classes)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image, order and class.

        codes: [b, n] long; orders: [b, m] long; classes: [b] long -> [b, m] float32.
        """
        if not len(codes) == len(orders) == len(classes):
            raise ValueError(
                f"as many images as orders and classes are needed, got {len(codes)} images, "
                f"{len(orders)} orders, {len(classes)} classes"
            )
        return self._log_probs_in_order(codes, orders, classes)

    def _features(self, decoded: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """What the head reads, at the predicting positions.

        decoded, orders: [s, m] long, the first m <= n tokens in order of decoding, s being b or 1
        (shared by all classes, and then embedded once); classes: [b] long -> [b, m, width].
        """
        config, length = self.config, decoded.shape[1] + 1
        if decoded.shape != orders.shape or not 1 < length <= config.tokens + 1:
            raise ValueError(
                f"codes and orders must have the same 1 to {config.tokens} tokens a sequence, "
                f"got {tuple(decoded.shape)} and {tuple(orders.shape)}"
            )
        # Rows 0 and 1 of both position tables are those of cls_token and class.
        own, told = self.pos_embed[0], self.target_aware_pos_embed[0, 2 + orders]  # [s, m, width]
        embedded = self.embeddings(config.first_class + classes).unsqueeze(1)  # [b, 1, width]
        known = self.embeddings(decoded[:, :-1]) + own[2 + orders[:, :-1]] + told[:, 1:]
        x = torch.cat(
            [
                (self.cls_token + own[0]).expand(len(classes), -1, -1),
                embedded + own[1] + told[:, :1],
                known.expand(len(classes), -1, -1),
            ],
            dim=1,
        )  # [b, m + 1, width]
        conditioning = embedded + self.timesteps_embeddings[:, :length]
        for block in self.blocks:
            x = block(x, conditioning)
        features: Tensor = self.adaln_before_head(x[:, 1:], conditioning[:, 1:])
        return features

    def _log_probs_in_order(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """[s, n], [s, m], [b] -> [b, m] float32."""
        decoded = codes.gather(1, orders)
        features = self._features(decoded, orders, classes)
        return self._log_probs(features, decoded, self.config.vocabulary)
