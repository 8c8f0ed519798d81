"""The VQGAN of Taming Transformers, stride 16: MaskGIT's tokenizer in Maskgit-pytorch.

The network of "Taming Transformers for High-Resolution Image Synthesis"
(https://github.com/CompVis/taming-transformers, taming/models/vqgan.py), with the parameter
names of its released checkpoints. In function its convolutions are those of `llamagen_vq`, whose
blocks serve here; its quantiser is that of `maskgit_vq`. It is neither of their tokenizers.

Released files hold the training loss's weights besides: see `without_loss`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llamagen_vq import (
    AttentionBlock,
    Downsample,
    LlamaGenVQConfig,
    ResidualBlock,
    Upsample,
    group_norm,
)
from genclass.models.maskgit_vq import Quantizer


@dataclass(frozen=True)
class TamingVQGANConfig(LlamaGenVQConfig):
    """Shape of the autoencoder; the default is the released f16 with 1024 codes."""

    name: ClassVar[str] = "Taming VQGAN"

    codebook: int = 1024
    code_width: int = 256


def without_loss(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict without `loss.*`, the discriminator that it was trained against."""
    return {name: weight for name, weight in weights.items() if not name.startswith("loss.")}


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention in the deepest."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(outputs if index else inputs, outputs) for index in range(blocks)
        )
        self.attn = nn.ModuleList(AttentionBlock(outputs) for _ in range(blocks * attention))

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        return x


class HalvingLevel(Level):
    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__(inputs, outputs, blocks, attention=False)
        self.downsample = Downsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.downsample(super().forward(x))
        return halved


class DoublingLevel(Level):
    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__(inputs, outputs, blocks, attention)
        self.upsample = Upsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.upsample(super().forward(x))
        return doubled


class Middle(nn.Module):
    """Residual, attention, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return mixed


class Encoder(nn.Module):
    """[b, 3, height, width] -> [b, latent, height / stride, width / stride]."""

    def __init__(self, config: TamingVQGANConfig) -> None:
        super().__init__()
        widths = (config.channels, *config.widths)  # into each level, and out of the last
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.down = nn.ModuleList(
            HalvingLevel(inputs, outputs, config.residual_blocks)
            for inputs, outputs in pairwise(widths[:-1])
        )
        self.down.append(Level(widths[-2], widths[-1], config.residual_blocks, attention=True))
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        latent: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return latent


class Decoder(nn.Module):
    """[b, latent, h, w] -> [b, 3, h x stride, w x stride]. Level 0 is the image's resolution."""

    def __init__(self, config: TamingVQGANConfig) -> None:
        super().__init__()
        widths = (*config.widths, config.widths[-1])  # out of each level, and into the deepest
        blocks, deepest = config.residual_blocks + 1, len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList([Level(widths[1], widths[0], blocks, attention=deepest == 0)])
        for level in range(1, deepest + 1):
            self.up.append(
                DoublingLevel(widths[level + 1], widths[level], blocks, attention=level == deepest)
            )
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latent))
        for level in reversed(self.up):
            x = level(x)
        images: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return images


class TamingVQGAN(nn.Module):
    """The autoencoder. Images are [b, 3, height, width] in [-1, 1], sides multiples of stride.

    Attention stands where an image of 256 pixels has 16 x 16 positions, whatever the image's size:
    in the last of the released five levels. `quantize(latent)` is the quantizer's:
    [b, code_width, h, w] -> codes [b, h, w] long, the nearest by Euclidean distance.
    """

    def __init__(self, config: TamingVQGANConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TamingVQGANConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config.codebook, config.code_width)
        self.quant_conv = nn.Conv2d(config.latent, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.latent, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Images -> latent [b, code_width, h, w], before quantisation."""
        self.config.check_sides(images)
        latent: Tensor = self.quant_conv(self.encoder(images))
        return latent

    def decode(self, codes: Tensor) -> Tensor:
        """codes [b, h, w] long -> images, roughly in [-1, 1]."""
        images: Tensor = self.decoder(self.post_quant_conv(self.quantize.vectors(codes)))
        return images
