"""LlamaGen's image tokenizer: a convolutional VQ autoencoder.

The network of "Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation"
(https://github.com/FoundationVision/LlamaGen, tokenizer/tokenizer_image/vq_model.py), with the
parameter names of its released checkpoints (vq_ds16_c2i). It is the tokenizer of RandAR too.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

NORM_GROUPS = 32


@dataclass(frozen=True)
class LlamaGenVQConfig:
    """Shape of the autoencoder; the default is the released stride-16 tokenizer."""

    name: ClassVar[str] = "LlamaGen VQ"  # in what is raised

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the channels, one per resolution
    residual_blocks: int = 2  # a level, in the encoder; the decoder has one more
    latent: int = 256  # channels between the convolutions and the code
    codebook: int = 16384
    code_width: int = 8

    def __post_init__(self) -> None:
        sizes = (self.residual_blocks, self.latent, self.codebook, self.code_width)
        if not self.multipliers or min(*sizes, self.channels, *self.multipliers) < 1:
            raise ValueError(f"{self.name}: every size must be at least 1, got {self}")
        if self.channels % NORM_GROUPS:
            raise ValueError(
                f"{self.name}: channels {self.channels} must be a multiple of {NORM_GROUPS}, "
                "the groups of its norms"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from the image's to the code's."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def stride(self) -> int:
        """Pixels along one side of a code."""
        return 2 ** (len(self.multipliers) - 1)

    def check_sides(self, images: Tensor) -> None:
        """
        Raises:
            ValueError: images [b, 3, height, width] do not divide into codes.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"an image of {height} x {width} pixels does not divide "
                f"into codes of {self.stride} x {self.stride}"
            )


def group_norm(channels: int, groups: int = NORM_GROUPS) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, swish, conv, twice; a 1x1 shortcut where the widths differ."""

    shortcut: ClassVar[str] = "nin_shortcut"  # its name, the one in which released layouts differ

    def __init__(self, inputs: int, outputs: int, groups: int = NORM_GROUPS) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = group_norm(outputs, groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        widen = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.add_module(self.shortcut, widen)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        total: Tensor = getattr(self, self.shortcut)(x) + h
        return total


class AttentionBlock(nn.Module):
    """One head over all positions, 1/sqrt(channels), residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # [b, channels, h, w] -> [b, 1 head, h x w, channels]
        q, k, v = (part(h).flatten(2).mT.unsqueeze(1) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.view_as(x)
        projected: Tensor = self.proj_out(mixed)
        return x + projected


class Downsample(nn.Module):
    """Halve the side: pad right and bottom by one, then a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Double the side: repeat every pixel, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class Level(nn.Module):
    """The blocks of one resolution, then the step to the next resolution, if there is one."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.res = nn.ModuleList(
            ResidualBlock(outputs if index else inputs, outputs) for index in range(blocks)
        )
        self.attn = nn.ModuleList(
            AttentionBlock(outputs) if attention else nn.Identity() for _ in range(blocks)
        )
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for residual, attention in zip(self.res, self.attn, strict=True):
            x = attention(residual(x))
        resized: Tensor = self.upsample(self.downsample(x))
        return resized


def middle(channels: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            ResidualBlock(channels, channels),
            AttentionBlock(channels),
            ResidualBlock(channels, channels),
        ]
    )


class Encoder(nn.Module):
    """[b, 3, height, width] -> [b, latent, height / stride, width / stride]."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        widths = (config.channels, *config.widths)  # into each level, and out of the last
        levels = len(config.widths)
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.conv_blocks = nn.ModuleList()
        for level in range(levels):
            deepest = level == levels - 1
            block = Level(widths[level], widths[level + 1], config.residual_blocks, deepest)
            if not deepest:
                block.downsample = Downsample(widths[level + 1])
            self.conv_blocks.append(block)
        self.mid = middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for block in (*self.conv_blocks, *self.mid):
            x = block(x)
        latent: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return latent


class Decoder(nn.Module):
    """[b, latent, h, w] -> [b, 3, h x stride, w x stride]."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        widths = (config.widths[-1], *reversed(config.widths))
        levels = len(config.widths)
        self.conv_in = nn.Conv2d(config.latent, widths[0], 3, padding=1)
        self.mid = middle(widths[0])
        self.conv_blocks = nn.ModuleList()
        for level in range(levels):
            block = Level(widths[level], widths[level + 1], config.residual_blocks + 1, level == 0)
            if level < levels - 1:
                block.upsample = Upsample(widths[level + 1])
            self.conv_blocks.append(block)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for block in (*self.mid, *self.conv_blocks):
            x = block(x)
        images: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return images


class Quantizer(nn.Module):
    """The nearest code, of latent and code vectors both scaled to length one."""

    codebook_used: Tensor

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codebook, config.code_width)
        # The original training's record of used codes: in every checkpoint, always this long.
        self.register_buffer("codebook_used", torch.zeros(65536))

    def forward(self, latent: Tensor) -> Tensor:
        """[b, code_width, h, w] -> codes [b, h, w] long.

        Among vectors of length one, the nearest is the one with the largest inner product, and
        the latent's own length changes nothing.
        """
        scores = torch.einsum("bchw,kc->bhwk", latent, self._unit_vectors())
        return scores.argmax(dim=-1)

    def points(self, latent: Tensor) -> Tensor:
        """What the codes are nearest to: [b, code_width, h, w] -> [b x h x w, code_width]."""
        return F.normalize(latent, dim=1).permute(0, 2, 3, 1).flatten(0, 2)

    def vectors(self, codes: Tensor) -> Tensor:
        """codes [b, h, w] long -> [b, code_width, h, w], each of length one."""
        return F.embedding(codes, self._unit_vectors()).permute(0, 3, 1, 2)

    def _unit_vectors(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1)


class LlamaGenVQ(nn.Module):
    """The autoencoder. Images are [b, 3, height, width] in [-1, 1], sides multiples of stride.

    `quantize(latent)` is the quantizer's: [b, code_width, h, w] -> codes [b, h, w] long.
    """

    darkest = -1.0  # the lowest value of a pixel that it reads

    def __init__(self, config: LlamaGenVQConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LlamaGenVQConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.latent, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.latent, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Images -> latent [b, code_width, h, w], before quantisation."""
        self.config.check_sides(images)
        latent: Tensor = self.quant_conv(self.encoder(images))
        return latent

    def decode(self, codes: Tensor) -> Tensor:
        """codes [b, h, w] long -> images, roughly in [-1, 1]."""
        return self.decode_latent(self.quantize.vectors(codes))

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Latent of unit length [b, code_width, h, w] -> images."""
        images: Tensor = self.decoder(self.post_quant_conv(latent))
        return images

    def quantize_with_gradient(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For training: (straight-through latent, codes, codebook loss, commitment loss).

        The straight-through latent has the code vectors' values and the latent's gradient; the
        codebook loss moves the code vectors to the latents, the commitment loss the reverse.
        """
        codes: Tensor = self.quantize(latent.detach())
        unit = F.normalize(latent, dim=1)
        vectors = self.quantize.vectors(codes)
        codebook_loss = F.mse_loss(vectors, unit.detach())
        commitment_loss = F.mse_loss(unit, vectors.detach())
        return unit + (vectors - unit).detach(), codes, codebook_loss, commitment_loss
