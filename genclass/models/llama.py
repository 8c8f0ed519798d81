"""What RandAR and LlamaGen share: a Llama-style transformer over a grid of image tokens.

RMSNorm, SwiGLU, no biases, 2-D rotary positions; with LlamaGen's parameter names, which RandAR's
are, too (https://github.com/FoundationVision/LlamaGen, autoregressive/models/gpt.py).
"""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

Rotary = tuple[Tensor, Tensor]  # cosines and sines, each [sequences or 1, positions, 1, head / 2]


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of such a transformer."""

    layers: int
    heads: int
    width: int
    vocabulary: int = 16384
    grid: int = 16  # tokens along one side of the image
    classes: int = 1000  # the class table has one row more: the null class, for training
    dropout: float = 0.0  # of tokens, attention outputs and feed-forward outputs, in training

    def __post_init__(self) -> None:
        name = type(self).__name__.removesuffix("Config")
        if min(self.layers, self.heads, self.width, self.vocabulary, self.grid, self.classes) < 1:
            raise ValueError(f"{name}: every size must be at least 1, got {self}")
        if self.width % (4 * self.heads):
            raise ValueError(
                f"{name}: width {self.width} must be a multiple of 4 x heads = {4 * self.heads} "
                "(half of each head turns with the row, half with the column, in pairs)"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"{name}: dropout {self.dropout} is not in [0, 1)")

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


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn neighbouring pairs of x [s, t, heads, head] by the table's angles, in float32."""
    cos, sin = rotary
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return turned.flatten(-2).type_as(x)


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, cast back before the weight (as Llama does)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), eps=1e-5) * self.weight


def predicting(t: Tensor, prefix: int | None) -> Tensor:
    """The positions of t [s, t, ..] that RandAR's head reads: the odd, or all after the prefix."""
    return t[:, 1::2] if prefix is None else t[:, prefix:]


class Attention(nn.Module):
    """Self-attention with 2-D rotary positions; causal, but for predictions in parallel."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.wqkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.wo = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        residual: Tensor,
        predictors_only: bool = False,
        prefix: int | None = None,
    ) -> Tensor:
        """x: [b, t, width] -> `added` to the residual, [b, t, width] or its `predicting` positions.

        prefix: none where all is causal; else how many positions are, each of the others seeing
        those and itself.
        """
        width = x.shape[-1]
        weight = self.wqkv.weight
        if predictors_only:
            cos, sin = rotary
            q = F.linear(predicting(x, prefix), weight[:width]).unflatten(-1, (self.heads, -1))
            kv = F.linear(x, weight[width:]).unflatten(-1, (2 * self.heads, -1))
            k, v = kv.chunk(2, dim=2)
            q = rotate(q, (predicting(cos, prefix), predicting(sin, prefix)))
            k = rotate(k, rotary)  # [b, t, heads, head]
            if prefix is None:
                # Each query stands twice, so that an ordinary causal square (and its fast
                # kernel) serves; the copy at the even position is thrown away.
                q = q.repeat_interleave(2, dim=1)
        elif fuses(x) and width == 64 * self.heads and self.heads % 4 == 0:
            qkv = torch.ops.genclass.rotated(x, weight, *rotary, self.heads)
            q, k, v = qkv.chunk(3, dim=2)
        else:  # one product is faster than two
            q, k, v = F.linear(x, weight).unflatten(-1, (3 * self.heads, -1)).chunk(3, dim=2)
            q, k = rotate(q, rotary), rotate(k, rotary)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [b, heads, t, head]
        if prefix is None:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
            if predictors_only:
                mixed = mixed[:, 1::2]
        else:
            mixed = attend_independently(q, k, v, prefix).transpose(1, 2)
        return added(residual, mixed.flatten(2), self.wo, self.dropout)


def attend_independently(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Causal attention within the prefix; each later position sees the prefix and itself.

    k, v: [b, heads, t, head]; q: the same, or without the prefix -> like q.
    """
    predicted = k.shape[2] - prefix
    inside = q.shape[2] - predicted  # queries of the prefix: all or none
    alone = torch.eye(predicted, dtype=torch.bool, device=q.device)
    mask = F.pad(alone, (prefix, 0), value=True)  # [predicted, t]
    mixed = F.scaled_dot_product_attention(q[:, :, inside:], k, v, attn_mask=mask)
    if not inside:
        return mixed
    first = F.scaled_dot_product_attention(
        q[:, :, :inside], k[:, :, :prefix], v[:, :, :prefix], is_causal=True
    )
    return torch.cat([first, mixed], dim=2)


def has_fused_products() -> bool:
    """Has the current GPU `genclass.models.fused_products`? Hopper has, with torch's own Triton."""
    if torch.cuda.get_device_capability()[0] != 9 or not find_spec("triton"):
        return False
    import genclass.models.fused_products  # noqa: F401 - the operations are there from now on

    return True


# All that `torch.compiler.assume_constant_result` does, without its import of torch._dynamo, which
# would take 1.3 s of every job.
has_fused_products._dynamo_marked_constant = True  # type: ignore[attr-defined]


def fuses(x: Tensor) -> bool:
    """Is a product of x finished where it is accumulated?"""
    return (
        x.is_cuda
        and x.dtype == torch.bfloat16
        and x.shape[-1] % 8 == 0  # rows of whole 16 bytes
        and not torch.is_grad_enabled()
        and has_fused_products()
    )


torch.library.define("genclass::add_linear_", "(Tensor(a!) x, Tensor inner, Tensor weight) -> ()")


@torch.library.impl("genclass::add_linear_", "CUDA")
def add_linear_(x: Tensor, inner: Tensor, weight: Tensor) -> None:
    """Add a linear layer of `inner` [.., hidden] to x [.., width], which is contiguous."""
    x.view(-1, x.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), weight.t())


@torch.library.register_fake("genclass::add_linear_")
def _(x: Tensor, inner: Tensor, weight: Tensor) -> None:
    return None


def added(residual: Tensor, inner: Tensor, layer: nn.Linear, dropout: float) -> Tensor:
    """The residual plus the layer of `inner`; on a GPU, where nothing is learned, in its place.

    Of RandAR-L on an H100 that saves a twenty-fifth of the time.
    """
    drops = dropout and layer.training
    if residual.is_cuda and residual.is_contiguous() and not (drops or torch.is_grad_enabled()):
        torch.ops.genclass.add_linear_(residual, inner, layer.weight)
        return residual
    return residual + F.dropout(layer(inner), dropout, layer.training)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.w1 = nn.Linear(config.width, config.hidden, bias=False)
        self.w3 = nn.Linear(config.width, config.hidden, bias=False)
        self.w2 = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x: [b, t, width] -> `added` to the residual, [b, t, width]."""
        return added(residual, self._inner(x), self.w2, self.dropout)

    def _inner(self, x: Tensor) -> Tensor:
        gate, value = self.w1.weight, self.w3.weight
        if not x.is_cuda:
            return F.silu(F.linear(x, gate)) * F.linear(x, value)
        if fuses(x):
            inner: Tensor = torch.ops.genclass.swiglu(x, gate, value)
            return inner
        # One product is faster than two, by more than copying the weights takes.
        gated, values = F.linear(x, torch.cat([gate, value])).chunk(2, dim=-1)
        return F.silu(gated) * values


class Block(nn.Module):
    """Pre-norm transformer block.

    predictors_only: give out the positions alone where RandAR's last layer is read.
    """

    def __init__(self, config: LlamaConfig) -> None:
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
        """x: [b, t, width], which may be written into -> [b, t or fewer, width]."""
        kept = predicting(x, prefix) if predictors_only else x
        x = self.attention(self.attention_norm(x), rotary, kept, predictors_only, prefix)
        return self.feed_forward(self.ffn_norm(x), x)


class ClassEmbedding(nn.Module):
    """One vector per class, and one more for the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, classes: Tensor) -> Tensor:
        embedded: Tensor = self.embedding_table(classes)
        return embedded


def start(network: nn.Module) -> None:
    """Weights as training starts: N(0, 0.02); the norms' stay at one."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
