"""MaskGIT, a bidirectional transformer that fills in masked image tokens.

The network of Maskgit-pytorch (https://github.com/valeoai/Maskgit-pytorch,
Network/transformer.py; "A PyTorch Reproduction of Masked Generative Image Transformer"), with
the parameter names of its released checkpoints. Its tokens are those of `taming_vqgan`. Dropout,
which its training had, is absent.

The network reads the n tokens of an image in raster order, those that are masked replaced by a
mask token, and the class last; its output at every place is a distribution over the codes and
the mask token. The product with the table of tokens, which is the head, is formed in float32:
the official code rounds it to bfloat16.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models import tokens
from genclass.models.tokens import TokenPredictor, wide_product


@dataclass(frozen=True)
class MaskGITConfig:
    """Shape of a MaskGIT; `MaskGITConfig(24, 16, 768, 3072)` is the released one for 256."""

    layers: int
    heads: int
    width: int
    hidden: int  # width inside the feed-forward
    vocabulary: int = 1024
    grid: int = 16  # tokens along one side of the image; 32 for 512 pixels
    classes: int = 1000  # the table has one row more: the null class, for training

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.width, self.hidden, self.vocabulary)
        if min(*sizes, self.grid, self.classes) < 1:
            raise ValueError(f"MaskGIT: every size must be at least 1, got {self}")
        if self.width % self.heads:
            raise ValueError(
                f"MaskGIT: width {self.width} must be a multiple of heads {self.heads}"
            )

    @property
    def tokens(self) -> int:
        """Image tokens, n."""
        return self.grid**2

    @property
    def mask_token(self) -> int:
        """Its row in the table of tokens; class c is row mask_token + 1 + c."""
        return self.vocabulary


class MultiheadAttention(nn.Module):
    """Parameters as `torch.nn.MultiheadAttention` names them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(q, k, v)  # [b, heads, positions, head]
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Attention(nn.Module):
    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.mha = MultiheadAttention(config.width, config.heads)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mha(x)
        return mixed


class FeedForward(nn.Module):
    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(config.width, config.hidden),
            nn.GELU(),
            nn.Identity(),  # dropout
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.net(x)
        return hidden


class Residual(nn.Module):
    """x + fn(norm(x))."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.fn(self.norm(x))
        return total


class Encoder(nn.Module):
    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                Residual(config.width, Attention(config)),
                Residual(config.width, FeedForward(config)),
            )
            for _ in range(config.layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def outer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-12)


class MaskGIT(TokenPredictor):
    """MaskGIT. Codes and masks lie in raster order; class `config.classes` is the null class."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, config.mask_token + 1 + config.classes + 1
        self.tok_emb = nn.Embedding(rows, width)
        self.pos_emb = nn.Parameter(torch.empty(1, config.tokens + 1, width))
        self.first_layer = nn.Sequential(
            outer_norm(width),
            nn.Identity(),  # dropout
            nn.Linear(width, width),
            nn.GELU(),
            outer_norm(width),
            nn.Identity(),  # dropout
            nn.Linear(width, width),
        )
        self.transformer = Encoder(config)
        self.last_layer = nn.Sequential(
            outer_norm(width),
            nn.Identity(),  # dropout
            nn.Linear(width, width),
            nn.GELU(),
            outer_norm(width),
        )
        # Of every row of the table at every position; only those of codes and mask are read.
        self.bias = nn.Parameter(torch.empty(config.tokens + 1, rows))
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.zeros_(self.bias)

    def scoring_blocks(self) -> Iterable[nn.Module]:
        return self.transformer.layers

    def head_logits(self, features: Tensor) -> Tensor:
        """[b, n, width] -> [b, n, vocabulary + 1] float32: every place has a bias of its own."""
        columns = self.config.vocabulary + 1
        bias = self.bias[: self.config.tokens, :columns]
        return wide_product(features, self.tok_emb.weight[:columns]) + bias.float()

    def forward(self, codes: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """Logits of codes and mask token at every place.

        codes: [b, n] long; masked: [b, n] bool; classes: [b] long
        -> [b, n, vocabulary + 1] float32.
        """
        return self.head_logits(self._features(codes, masked, classes))

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """log p(true code | tokens that are not masked, class) of one image for many classes.

        The distribution has the mask token's column besides the codes', as in the official code.

        codes: [n] long; masked: [n] bool; classes: [c] long -> [c, n] float32, at every place in
        raster order, masked or not.
        """
        return self._log_probs_of(codes.unsqueeze(0), masked.unsqueeze(0), classes)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image, mask and class.

        codes: [b, n] long; masked: [b, n] bool; classes: [b] long -> [b, n] float32.
        """
        if not len(codes) == len(masked) == len(classes):
            raise ValueError(
                f"as many images as masks and classes are needed, got {len(codes)} images, "
                f"{len(masked)} masks, {len(classes)} classes"
            )
        return self._log_probs_of(codes, masked, classes)

    def _features(self, codes: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """What the head reads, at every place.

        codes, masked: [s, n], s being b or 1 (shared by all classes, and then embedded once);
        classes: [b] long -> [b, n, width].
        """
        config = self.config
        if codes.shape != masked.shape or codes.shape[1] != config.tokens:
            raise ValueError(
                f"codes and masks must have {config.tokens} tokens a sequence, "
                f"got {tuple(codes.shape)} and {tuple(masked.shape)}"
            )
        read = self.tok_emb(codes.masked_fill(masked, config.mask_token)) + self.pos_emb[:, :-1]
        own = self.tok_emb(config.mask_token + 1 + classes).unsqueeze(1) + self.pos_emb[:, -1:]
        embedded = self.first_layer(read).expand(len(classes), -1, -1)
        x = self.transformer(torch.cat([embedded, self.first_layer(own)], dim=1))
        features: Tensor = self.last_layer(x[:, :-1])
        return features

    def _log_probs_of(self, codes: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """[s, n], [s, n], [b] -> [b, n] float32."""
        features = self._features(codes, masked, classes)
        return self._log_probs(features, codes, self.config.vocabulary + 1)

    def _log_probs(self, features: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
        """In chunks of whole sequences, since the head has a bias for every place."""
        rows = max(1, tokens.LOGITS_AT_ONCE // (self.config.tokens * vocabulary))
        chunks = zip(
            features.split(rows), targets.expand(len(features), -1).split(rows), strict=True
        )
        return torch.cat([self._target_log_probs(*chunk) for chunk in chunks])

    def _target_log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """[r, n, width], [r, n] -> [r, n] float32."""
        logits = self.head_logits(features)
        chosen = logits.gather(2, targets.unsqueeze(2)).squeeze(2)
        return chosen - logits.logsumexp(dim=2)
