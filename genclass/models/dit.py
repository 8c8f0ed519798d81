"""DiT, a diffusion transformer over image latents, conditioned on timestep and class.

The network of "Scalable Diffusion Models with Transformers"
(https://github.com/facebookresearch/DiT, models.py), with the parameter names of its released
checkpoints. It predicts the noise in a noised latent (the first `channels` of its outputs) and,
in the released networks, a variance besides, which a classifier does not need: `predict`
computes the former only.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

SINUSOIDS = 256  # of the timestep


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a DiT; `DiTConfig(layers=28, heads=16, width=1152)` is DiT-XL/2 for 256 pixels."""

    layers: int
    heads: int
    width: int
    patch: int = 2
    latent_size: int = 32  # side of the latent
    channels: int = 4  # of the latent
    classes: int = 1000  # the class table has one row more: the null class, for training
    learn_sigma: bool = True  # as many output channels again, for the variance

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.width, self.patch, self.latent_size)
        if min(*sizes, self.channels, self.classes) < 1:
            raise ValueError(f"DiT: every size must be at least 1, got {self}")
        if self.width % self.heads:
            raise ValueError(f"DiT: width {self.width} must be a multiple of heads {self.heads}")
        if self.width % 4:
            raise ValueError(
                f"DiT: width {self.width} must be a multiple of 4, for its position table "
                "(sine and cosine of row and column)"
            )
        if self.latent_size % self.patch:
            raise ValueError(
                f"DiT: latent size {self.latent_size} must be a multiple of patch {self.patch}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side; tokens = grid**2."""
        return self.latent_size // self.patch

    @property
    def output_channels(self) -> int:
        return self.channels * (2 if self.learn_sigma else 1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x: [b or 1, tokens, width]; shift, scale: [b, width] -> [b, tokens, width]."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def layer_norm(x: Tensor) -> Tensor:
    """Without parameters: scale and shift come from the conditioning."""
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6)


def position_table(width: int, grid: int) -> Tensor:
    """Sines and cosines of column, then of row: [1, grid**2, width]."""
    frequencies = 10000.0 ** -(torch.arange(width // 4).double() / (width / 4))
    angles = torch.arange(grid).double().unsqueeze(1) * frequencies  # [grid, width / 4]
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = line.repeat(grid, 1)
    rows = line.repeat_interleave(grid, dim=0)
    return torch.cat([columns, rows], dim=1).float().unsqueeze(0)


class PatchEmbedding(nn.Module):
    """[b, channels, side, side] -> [b, tokens, width], patches in raster order."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.width, config.patch, stride=config.patch)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.proj(x).flatten(2).mT
        return patches


class TimestepEmbedding(nn.Module):
    """t [b] float32 -> [b, width]: sinusoids, then a two-layer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOIDS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = SINUSOIDS // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.unsqueeze(1) * torch.exp(-math.log(10000) * steps / half)
        sinusoids = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedded: Tensor = self.mlp(sinusoids.to(next(self.parameters()).dtype))
        return embedded

    def initialise(self) -> None:
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)


class ClassEmbedding(nn.Module):
    """One vector per class, and one more for the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, classes: Tensor) -> Tensor:
        embedded: Tensor = self.embedding_table(classes)
        return embedded


class Attention(nn.Module):
    """Every token attends to every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        q, k, v = qkv.unbind(2)  # [b, heads, tokens, head]
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


# An operation of its own, as torch.compile would take the two apart again; and not by
# `torch.library.custom_op`, which imports the compiler, seconds of a job that compiles nothing.
torch.library.define("genclass::linear_gelu", "(Tensor x, Tensor weight, Tensor bias) -> Tensor")


@torch.library.impl("genclass::linear_gelu", "CUDA")
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The tanh-approximated GELU of a linear layer, applied where the product is accumulated.

    Of DiT-XL on an H100 it saves a twentieth of the time.
    """
    product = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
    return product.unflatten(0, x.shape[:-1])


@torch.library.register_fake("genclass::linear_gelu")
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


class FeedForward(nn.Module):
    """Two layers, tanh-approximated GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and not torch.is_grad_enabled():
            inner = torch.ops.genclass.linear_gelu(x, self.fc1.weight, self.fc1.bias)
        else:
            inner = F.gelu(self.fc1(x), approximate="tanh")
        hidden: Tensor = self.fc2(inner)
        return hidden


class Block(nn.Module):
    """Transformer block with adaLN-Zero: the conditioning shifts, scales and gates it."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.mlp = FeedForward(config.width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x: [b or 1, tokens, width]; conditioning: [b, width] -> [b, tokens, width]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(conditioning).chunk(
            6, dim=1
        )
        x = x + gate1.unsqueeze(1) * self.attn(modulate(layer_norm(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(layer_norm(x), shift2, scale2))


class FinalLayer(nn.Module):
    """Tokens to patches of pixels."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.linear = nn.Linear(config.width, config.patch**2 * config.output_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(self, x: Tensor, conditioning: Tensor, channels: int) -> Tensor:
        """Only the first `channels` output channels: [b, grid**2, width] -> [b, channels, s, s]."""
        shift, scale = self.adaLN_modulation(conditioning).chunk(2, dim=1)
        # The linear's rows are (row in patch, column in patch, channel).
        weight = self.linear.weight.unflatten(0, (self.patch**2, -1))[:, :channels].flatten(0, 1)
        bias = self.linear.bias.unflatten(0, (self.patch**2, -1))[:, :channels].flatten()
        pixels = F.linear(modulate(layer_norm(x), shift, scale), weight, bias)
        grid = math.isqrt(x.shape[1])
        pixels = pixels.view(-1, grid, grid, self.patch, self.patch, channels)
        return pixels.permute(0, 5, 1, 3, 2, 4).reshape(
            -1, channels, grid * self.patch, grid * self.patch
        )


def as_times(t: Tensor | float, x: Tensor) -> Tensor:
    """A tensor, float32 [b] or [1]: compiled code would be compiled anew for each number."""
    return torch.as_tensor(t, dtype=torch.float32, device=x.device).reshape(-1)


class DiT(nn.Module):
    """DiT; starts as its authors start training, each block an identity, the output zero."""

    pos_embed: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pos_embed", position_table(config.width, config.grid))
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = TimestepEmbedding(config.width)
        self.y_embedder = ClassEmbedding(config.classes, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_layer = FinalLayer(config)
        self._initialise()

    def compile_scoring(self) -> None:
        """Fuse what lies between the matrix products, by torch.compile.

        Each new number of classes at once is compiled for itself, in about half a minute. Block
        by block, as RandAR, it was faster to compile and 5 % slower to run on an H100.
        """
        self._outputs = torch.compile(self._outputs, dynamic=False)  # type: ignore[method-assign]

    def forward(self, x: Tensor, t: Tensor | float, classes: Tensor) -> Tensor:
        """All output channels: noise, then variance where it is learned.

        x: [b, channels, s, s]; t: [b] or one number; classes: [b] long
        -> [b, output channels, s, s]. t is 0 .. 999, as the network was trained.
        """
        return self._outputs(x, as_times(t, x), classes, self.config.output_channels)

    def predict(self, x: Tensor, t: Tensor | float, classes: Tensor) -> Tensor:
        """The noise only: like `forward`, but [b, channels, s, s]."""
        return self._outputs(x, as_times(t, x), classes, self.config.channels)

    @torch.no_grad()
    def predict_classes(self, x: Tensor, t: Tensor | float, classes: Tensor) -> Tensor:
        """The noise in one noised latent under each of many classes.

        x: [1, channels, s, s]; t: one number; classes: [c] long -> [c, channels, s, s].
        Patches, positions and timestep are embedded once and shared.
        """
        if len(x) != 1:
            raise ValueError(f"one noised latent is needed for all classes, got {len(x)}")
        return self.predict(x, t, classes)

    def _outputs(self, x: Tensor, t: Tensor, classes: Tensor, channels: int) -> Tensor:
        """x: [b or 1, ...]; t: [b] or [1]; classes: [b] -> [b, channels, s, s]."""
        side = self.config.latent_size
        if x.shape[1:] != (self.config.channels, side, side):
            raise ValueError(
                f"latents must be [b, {self.config.channels}, {side}, {side}], got {list(x.shape)}"
            )
        conditioning = self._conditioning(t, classes)
        tokens = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, conditioning)
        outputs: Tensor = self.final_layer(tokens, conditioning, channels)
        return outputs

    def _conditioning(self, t: Tensor, classes: Tensor) -> Tensor:
        """t: [b] or [1]; classes: [b] -> [b, width]."""
        conditioning: Tensor = self.t_embedder(t) + self.y_embedder(classes)
        return conditioning

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        nn.init.zeros_(self.x_embedder.proj.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        self.t_embedder.initialise()
        for gated in (*self.blocks, self.final_layer):
            nn.init.zeros_(gated.adaLN_modulation[1].weight)
            nn.init.zeros_(gated.adaLN_modulation[1].bias)
        nn.init.zeros_(self.final_layer.linear.weight)
