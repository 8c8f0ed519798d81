"""RandAR, a decoder-only transformer that predicts image tokens in any order.

The network of "RandAR: Decoder-only Autoregressive Visual Generation in Random Orders"
(https://github.com/ziqipang/RandAR, RandAR/model/randar_gpt.py), with the parameter names of
its released checkpoints, so that `load_state_dict(strict=True)` accepts them.

An image is n = grid**2 tokens; an order o is a permutation of its n positions. The network reads

    position   0      1       2        3       4             2n-1
    token      class  p(o_1)  x(o_1)   p(o_2)  x(o_2)  ...   p(o_n)

where p(o) is one learned vector, rotated to say "the token at grid position o is next". Its
output at p(o_i) is the distribution of x(o_i) given the class and x(o_1) .. x(o_{i-1}). The
official sequence ends with one more token, x(o_n), which nothing that counts ever attends to:
it is left out, and so are the last layer's outputs anywhere but at the p tokens.

The same network, with the same weights, predicts every hidden token from a visible set alone
("masked diffusion", RandAR_DM of the paper's repository). With the b first tokens of an order
visible it reads

    position   0      1       2       ...  2b      2b+1        2b+2             n+b
    token      class  p(o_1)  x(o_1)  ...  x(o_b)  p(o_{b+1})  p(o_{b+2})  ...  p(o_n)

where all up to 2b is causal, and each later position sees those and itself only.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models import sizes

SIZES = sizes.RANDAR

# Logits that the scoring path holds at once, whatever the number of sequences: 128 MiB in float32.
LOGITS_AT_ONCE = 2**25

Rotary = tuple[Tensor, Tensor]  # cosines and sines, each [sequences or 1, positions, 1, head / 2]


@dataclass(frozen=True)
class RandARConfig:
    """Shape of a RandAR; `RandARConfig(**SIZES["L"])` is the released RandAR-L."""

    layers: int
    heads: int
    width: int
    vocabulary: int = 16384
    grid: int = 16  # tokens along one side of the image
    classes: int = 1000  # the class table has one row more: the null class, for training
    dropout: float = 0.0  # of tokens, attention outputs and feed-forward outputs, in training

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.width, self.vocabulary, self.grid, self.classes) < 1:
            raise ValueError(f"RandAR: every size must be at least 1, got {self}")
        if self.width % (4 * self.heads):
            raise ValueError(
                f"RandAR: width {self.width} must be a multiple of 4 x heads = {4 * self.heads} "
                "(half of each head turns with the row, half with the column, in pairs)"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"RandAR: dropout {self.dropout} is not in [0, 1)")

    @property
    def tokens(self) -> int:
        """Image tokens, n."""
        return self.grid**2

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward: 2/3 of 4 x width, then up to a multiple of 256."""
        return -(-(8 * self.width // 3) // 256) * 256


def rotary_table(orders: Tensor, grid: int, head_width: int) -> Rotary:
    """Rotary angles of grid positions.

    The first quarter of a head's angles turn with the row, the next with the column. Always
    computed, in float32, never a buffer: a network cast to bfloat16 keeps exact angles.

    orders: [s, n] long -> cosines and sines, each [s, n, 1, head_width / 2] float32.
    """
    half = head_width // 2
    exponents = torch.arange(0, half, 2, device=orders.device).float() / half
    frequencies = 1.0 / 10000.0**exponents  # [head_width / 4]
    rows = (orders // grid).unsqueeze(-1) * frequencies
    columns = (orders % grid).unsqueeze(-1) * frequencies
    angles = torch.cat([rows, columns], dim=-1).unsqueeze(2)
    return angles.cos(), angles.sin()


def interleave(rotary: Rotary) -> Rotary:
    """From a table over n steps to the 2n positions [class, p, x, p, x, .., p].

    Both tokens of a step carry its grid position. The class token's cosines and sines are zero,
    as in the official code: its query and key vanish, so all may attend to it, with score 0.
    """
    cos, sin = (F.pad(t.repeat_interleave(2, dim=1)[:, :-1], (0, 0, 0, 0, 1, 0)) for t in rotary)
    return cos, sin


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn neighbouring pairs of x [s, t, heads, head] by the table's angles, in float32."""
    cos, sin = rotary
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return turned.flatten(-2).type_as(x)


def predicting(t: Tensor, prefix: int | None) -> Tensor:
    """The positions of t [s, t, ..] that the head reads: the p tokens, or all after the prefix."""
    return t[:, 1::2] if prefix is None else t[:, prefix:]


def independent_mask(prefix: int, predicted: int, device: torch.device) -> Tensor:
    """Who sees whom, bool [predicted, prefix + predicted]: the prefix, and each itself."""
    alone = torch.eye(predicted, dtype=torch.bool, device=device)
    return F.pad(alone, (prefix, 0), value=True)


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, cast back before the weight (as Llama does)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), eps=1e-5) * self.weight


class Attention(nn.Module):
    """Self-attention with 2-D rotary positions; causal, but for predictions in parallel."""

    def __init__(self, config: RandARConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.wqkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.wo = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        predictors_only: bool = False,
        prefix: int | None = None,
    ) -> Tensor:
        """x: [b, t, width] -> [b, t, width], or at the predicting positions only.

        prefix: none where all is causal; else how many positions are, each of the others seeing
        those and itself.
        """
        width = x.shape[-1]
        asking = predicting(x, prefix) if predictors_only else x
        q = F.linear(asking, self.wqkv.weight[:width]).unflatten(-1, (self.heads, -1))
        kv = F.linear(x, self.wqkv.weight[width:]).unflatten(-1, (2 * self.heads, -1))
        k, v = kv.chunk(2, dim=2)  # [b, t, heads, head]
        cos, sin = rotary
        k = rotate(k, rotary)
        if predictors_only:
            q = rotate(q, (predicting(cos, prefix), predicting(sin, prefix)))
            if prefix is None:
                # Each query stands twice, so that an ordinary causal square (and its fast
                # kernel) serves; the copy at the even position is thrown away.
                q = q.repeat_interleave(2, dim=1)
        else:
            q = rotate(q, rotary)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [b, heads, t, head]
        if prefix is None:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
            if predictors_only:
                mixed = mixed[:, 1::2]
        else:
            mixed = attend_independently(q, k, v, prefix).transpose(1, 2)
        return F.dropout(self.wo(mixed.flatten(2)), self.dropout, self.training)


def attend_independently(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Causal attention within the prefix; each later position sees the prefix and itself.

    k, v: [b, heads, t, head]; q: the same, or without the prefix -> like q.
    """
    predicted = k.shape[2] - prefix
    inside = q.shape[2] - predicted  # queries of the prefix: all or none
    mask = independent_mask(prefix, predicted, q.device)
    mixed = F.scaled_dot_product_attention(q[:, :, inside:], k, v, attn_mask=mask)
    if not inside:
        return mixed
    first = F.scaled_dot_product_attention(
        q[:, :, :inside], k[:, :, :prefix], v[:, :, :prefix], is_causal=True
    )
    return torch.cat([first, mixed], dim=2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: RandARConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.w1 = nn.Linear(config.width, config.hidden, bias=False)
        self.w3 = nn.Linear(config.width, config.hidden, bias=False)
        self.w2 = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: RandARConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.width)
        self.ffn_norm = RMSNorm(config.width)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        predictors_only: bool = False,
        prefix: int | None = None,
    ) -> Tensor:
        mixed = self.attention(self.attention_norm(x), rotary, predictors_only, prefix)
        x = (predicting(x, prefix) if predictors_only else x) + mixed
        return x + self.feed_forward(self.ffn_norm(x))


class ClassEmbedding(nn.Module):
    """One vector per class, and one more for the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, classes: Tensor) -> Tensor:
        embedded: Tensor = self.embedding_table(classes)
        return embedded


class RandAR(nn.Module):
    """RandAR; starts with weights N(0, 0.02) and a head of zeros, as it is trained.

    Codes lie in raster order, code i belonging to grid position (i // grid, i % grid): the token
    decoded at step i of an order is codes[order[i]].
    """

    def __init__(self, config: RandARConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_instruct_embeddings = nn.Parameter(torch.empty(1, config.width))
        self.cls_embedding = ClassEmbedding(config.classes, config.width)
        self.tok_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
        nn.init.zeros_(self.output.weight)

    def compile_scoring(self) -> None:
        """Fuse what lies between the matrix products of the scoring path, by torch.compile.

        Each new number of sequences at once is compiled for itself, in seconds: the blocks share
        their code, and compiled one by one they run no slower than as a whole.
        """
        # To its limit they are one function, in two forms (the last block's) for each number.
        torch._dynamo.config.recompile_limit = 64
        for layer in self.layers:
            layer.compile(dynamic=False)
        self._target_log_probs = torch.compile(  # type: ignore[method-assign]
            self._target_log_probs, dynamic=False
        )

    def forward(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """Logits of every token, in order of decoding: the training path.

        codes, orders: [b, n] long; classes: [b] long -> [b, n, vocabulary].
        """
        logits: Tensor = self.output(self._features(codes.gather(1, orders), orders, classes))
        return logits

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, order: Tensor, classes: Tensor) -> Tensor:
        """log p(token | tokens before it, class) of one image in one order, for many classes.

        codes, order: [n] long; classes: [c] long -> [c, n] float32, in order of decoding.
        """
        return self._log_probs(codes.unsqueeze(0), order.unsqueeze(0), classes)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image, order and class.

        codes: [b, n] long; orders: [b, m] long, whole orders or the first m places of them;
        classes: [b] long -> [b, m] float32, in order of decoding.
        """
        if not len(codes) == len(orders) == len(classes):
            raise ValueError(
                f"as many images as orders and classes are needed, got {len(codes)} images, "
                f"{len(orders)} orders, {len(classes)} classes"
            )
        return self._log_probs(codes, orders, classes)

    @torch.no_grad()
    def hidden_log_probs(
        self, codes: Tensor, order: Tensor, visible: int, classes: Tensor
    ) -> Tensor:
        """log p(hidden token | the visible tokens, class) of one image for many classes.

        codes, order: [n] long; visible: the first so many places of the order are, 0 .. n - 1;
        classes: [c] long -> [c, n - visible] float32, in the order's order.
        """
        return self._log_probs(codes.unsqueeze(0), order.unsqueeze(0), classes, visible)

    @torch.no_grad()
    def hidden_log_probs_batch(
        self, codes: Tensor, orders: Tensor, visible: int, classes: Tensor
    ) -> Tensor:
        """The same where every sequence has its own image, order and class, but all as many
        visible tokens.

        codes, orders: [b, n] long; classes: [b] long -> [b, n - visible] float32.
        """
        if not len(codes) == len(orders) == len(classes):
            raise ValueError(
                f"as many images as orders and classes are needed, got {len(codes)} images, "
                f"{len(orders)} orders, {len(classes)} classes"
            )
        return self._log_probs(codes, orders, classes, visible)

    def _features(
        self, decoded: Tensor, orders: Tensor, classes: Tensor, visible: int | None = None
    ) -> Tensor:
        """What the head reads, at the predicting positions.

        decoded, orders: [s, m] long, the first m <= n tokens in order of decoding, s being b or 1
        (shared by all classes, and then embedded and rotated once); classes: [b] long
        -> [b, m, width]; visible: so many tokens only are seen -> [b, m - visible, width].
        """
        config = self.config
        if decoded.shape != orders.shape or not 1 <= orders.shape[1] <= config.tokens:
            raise ValueError(
                f"codes and orders must have the same 1 to {config.tokens} tokens a sequence, "
                f"got {tuple(decoded.shape)} and {tuple(orders.shape)}"
            )
        steps = rotary_table(orders, config.grid, config.width // config.heads)
        instruction = self.pos_instruct_embeddings.view(1, 1, config.heads, -1)
        instructions = rotate(instruction, steps).flatten(2)  # [s, m, width]
        if visible is None:
            prefix, known = None, decoded
        elif 0 <= visible < orders.shape[1]:
            prefix, known = 1 + 2 * visible, decoded[:, :visible]
        else:
            raise ValueError(
                f"0 to {orders.shape[1] - 1} tokens may be visible, so that one is hidden, "
                f"got {visible}"
            )
        pairs = torch.stack(
            [instructions[:, : known.shape[1]], self.tok_embeddings(known)], dim=2
        ).flatten(1, 2)
        rotary = interleave(steps)  # [s, 2m, ..]
        if prefix is None:
            told = pairs[:, :-1]
        else:
            told = torch.cat([pairs, instructions[:, visible:]], dim=1)
            cos, sin = (
                torch.cat([both[:, :prefix], one[:, visible:]], dim=1)
                for both, one in zip(rotary, steps, strict=True)
            )
            rotary = cos, sin
        x = torch.cat(
            [self.cls_embedding(classes).unsqueeze(1), told.expand(len(classes), -1, -1)], dim=1
        )  # [b, 2m or prefix + m - visible, width]
        x = F.dropout(x, config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotary, predictors_only=index == config.layers - 1, prefix=prefix)
        features: Tensor = self.norm(x)
        return features

    def _log_probs(
        self, codes: Tensor, orders: Tensor, classes: Tensor, visible: int | None = None
    ) -> Tensor:
        """[s, n], [s, m], [b] -> [b, m] float32, or of the hidden tokens only.

        No more than LOGITS_AT_ONCE logits at a time.
        """
        decoded = codes.gather(1, orders)
        features = self._features(decoded, orders, classes, visible)
        targets = decoded[:, visible or 0 :].expand(len(classes), -1)
        rows = max(1, LOGITS_AT_ONCE // self.config.vocabulary)
        chunks = zip(features.flatten(0, 1).split(rows), targets.flatten().split(rows), strict=True)
        return torch.cat([self._target_log_probs(*chunk) for chunk in chunks]).view(targets.shape)

    def _target_log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """[r, width], [r] -> [r] float32; the softmax is never written out, only its norm."""
        logits = self.output(features).float()
        chosen = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        return chosen - logits.logsumexp(dim=1)
