"""MaskGIT's image tokenizer: a convolutional VQ autoencoder without attention.

The network of "MaskGIT: Masked Generative Image Transformer" as ported to PyTorch
(https://github.com/huggingface/open-muse, muse/modeling_maskgit_vqgan.py), with the parameter
names of the released checkpoint. RandAR trained with it is an ablation of the paper.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

NORM_GROUPS = 32


@dataclass(frozen=True)
class MaskGITVQConfig:
    """Shape of the autoencoder; the default is the released stride-16 tokenizer."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the channels, one per resolution
    residual_blocks: int = 2  # a level
    latent: int = 256  # channels of latent and code vectors
    codebook: int = 1024

    def __post_init__(self) -> None:
        sizes = (self.channels, self.residual_blocks, self.latent, self.codebook)
        if not self.multipliers or min(*sizes, *self.multipliers) < 1:
            raise ValueError(f"MaskGIT VQ: every size must be at least 1, got {self}")
        if self.channels % NORM_GROUPS:
            raise ValueError(
                f"MaskGIT VQ: channels {self.channels} must be a multiple of {NORM_GROUPS}, "
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


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, silu, conv, twice.

    Where the widths differ, the shortcut is taken from the block's own output, not from its
    input: an oddity that the released weights were trained with.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.widens = inputs != outputs
        if self.widens:
            self.nin_shortcut = nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut: Tensor = self.nin_shortcut(h) if self.widens else x
        return h + shortcut


def residual_blocks(inputs: int, outputs: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(
        ResidualBlock(outputs if index else inputs, outputs) for index in range(blocks)
    )


class DownLevel(nn.Module):
    """The encoder's blocks of one resolution; the last level's is not halved."""

    def __init__(self, inputs: int, outputs: int, blocks: int, halves: bool) -> None:
        super().__init__()
        self.block = residual_blocks(inputs, outputs, blocks)
        self.halves = halves

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return F.avg_pool2d(x, 2) if self.halves else x


class UpLevel(nn.Module):
    """The decoder's blocks of one resolution; the last level's is not doubled."""

    def __init__(self, inputs: int, outputs: int, blocks: int, doubles: bool) -> None:
        super().__init__()
        self.block = residual_blocks(inputs, outputs, blocks)
        self.doubles = doubles
        if doubles:
            self.upsample_conv = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        if self.doubles:
            x = self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Encoder(nn.Module):
    """[b, 3, height, width] -> [b, latent, height / stride, width / stride]."""

    def __init__(self, config: MaskGITVQConfig) -> None:
        super().__init__()
        widths = (config.channels, *config.widths)  # into each level, and out of the last
        levels = len(config.widths)
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            DownLevel(widths[i], widths[i + 1], config.residual_blocks, halves=i < levels - 1)
            for i in range(levels)
        )
        self.mid = residual_blocks(widths[-1], widths[-1], config.residual_blocks)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for block in (*self.down, *self.mid):
            x = block(x)
        latent: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return latent


class Decoder(nn.Module):
    """[b, latent, h, w] -> [b, 3, h x stride, w x stride]. Level 0 is the image's resolution."""

    def __init__(self, config: MaskGITVQConfig) -> None:
        super().__init__()
        widths = (*config.widths, config.widths[-1])  # out of each level, and into the deepest
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = residual_blocks(widths[-1], widths[-1], config.residual_blocks)
        self.up = nn.ModuleList(
            UpLevel(widths[i + 1], widths[i], config.residual_blocks, doubles=i > 0)
            for i in range(len(config.widths))
        )
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for block in (*self.mid, *reversed(self.up)):
            x = block(x)
        images: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return images


class Quantizer(nn.Module):
    """The nearest code by Euclidean distance."""

    def __init__(self, codebook: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook, width)

    def forward(self, latent: Tensor) -> Tensor:
        """[b, width, h, w] -> codes [b, h, w] long; the latent's own length changes nothing."""
        vectors = self.embedding.weight
        products = torch.einsum("bchw,kc->bhwk", latent, vectors)
        return (vectors.square().sum(dim=1) - 2 * products).argmin(dim=-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """codes [b, h, w] long -> [b, width, h, w]."""
        vectors: Tensor = self.embedding(codes)
        return vectors.permute(0, 3, 1, 2)


class MaskGITVQ(nn.Module):
    """The autoencoder. Images are [b, 3, height, width] in [0, 1], sides multiples of stride.

    `quantize(latent)` is the quantizer's: [b, latent, h, w] -> codes [b, h, w] long.
    """

    darkest = 0.0  # the lowest value of a pixel that it reads

    def __init__(self, config: MaskGITVQConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MaskGITVQConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config.codebook, config.latent)

    def encode(self, images: Tensor) -> Tensor:
        """Images -> latent [b, latent, h, w], before quantisation."""
        if images.shape[-1] % self.config.stride or images.shape[-2] % self.config.stride:
            raise ValueError(
                f"an image of {images.shape[-2]} x {images.shape[-1]} pixels does not divide "
                f"into codes of {self.config.stride} x {self.config.stride}"
            )
        latent: Tensor = self.encoder(images)
        return latent

    def decode(self, codes: Tensor) -> Tensor:
        """codes [b, h, w] long -> images, roughly in [0, 1]."""
        images: Tensor = self.decoder(self.quantize.vectors(codes))
        return images
