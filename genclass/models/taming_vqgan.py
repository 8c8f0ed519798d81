"""The VQGAN of Taming Transformers, stride 16: MaskGIT's tokenizer in Maskgit-pytorch.

The network of "Taming Transformers for High-Resolution Image Synthesis"
(https://github.com/CompVis/taming-transformers, taming/models/vqgan.py), with the parameter
names of its released checkpoints. In function its convolutions are those of `llamagen_vq`, whose
blocks serve here; its quantiser is that of `maskgit_vq`. It is neither of their tokenizers.

Released files hold the training loss's weights besides: see `without_loss`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn as nn
from torch import Tensor

from genclass.models.llamagen_vq import AttentionBlock, LlamaGenVQConfig
from genclass.models.maskgit_vq import Quantizer
from genclass.models.taming_layout import Decoder, Encoder


@dataclass(frozen=True)
class TamingVQGANConfig(LlamaGenVQConfig):
    """Shape of the autoencoder; the default is the released f16 with 1024 codes."""

    name: ClassVar[str] = "Taming VQGAN"

    codebook: int = 1024
    code_width: int = 256


def without_loss(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict without `loss.*`, the discriminator that it was trained against."""
    return {name: weight for name, weight in weights.items() if not name.startswith("loss.")}


class TamingVQGAN(nn.Module):
    """The autoencoder. Images are [b, 3, height, width] in [-1, 1], sides multiples of stride.

    Attention stands where an image of 256 pixels has 16 x 16 positions, whatever the image's size:
    in the last of the released five levels. `quantize(latent)` is the quantizer's:
    [b, code_width, h, w] -> codes [b, h, w] long, the nearest by Euclidean distance.
    """

    darkest = -1.0  # the lowest value of a pixel that it reads

    def __init__(self, config: TamingVQGANConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TamingVQGANConfig()
        widths, latent, blocks = config.widths, config.latent, config.residual_blocks
        self.encoder = Encoder(config.channels, widths, blocks, latent, AttentionBlock)
        self.decoder = Decoder(widths, blocks + 1, latent, AttentionBlock)
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
