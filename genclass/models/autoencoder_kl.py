"""The autoencoder of latent diffusion: diffusers' AutoencoderKL, always in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genclass.config import AutoencoderKLEncoder


def build_autoencoder(section: AutoencoderKLEncoder) -> nn.Module:
    """An AutoencoderKL of the given shape, with random weights."""
    # Imported here: diffusers takes seconds to import, and only these models need it.
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(section.channels)
    network: nn.Module = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(section.channels),
        layers_per_block=section.residual_blocks,
        latent_channels=section.latent_channels,
        norm_num_groups=section.groups,
    )
    return network


class Autoencoder:
    """Images to posteriors of latents.

    stride: pixels along one side of a latent cell; scaling: what latents are multiplied by.
    """

    def __init__(self, network: nn.Module, section: AutoencoderKLEncoder) -> None:
        self.network: Any = network.eval()
        self.stride = 2 ** (len(section.channels) - 1)
        self.scaling = section.scaling

    def to(self, device: torch.device) -> Autoencoder:
        self.network.to(device)
        return self

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [b, 3, h, w] in [-1, 1] -> the posterior's mean and standard deviation.

        Both are float32 [b, channels, h / stride, w / stride], before scaling.
        """
        posterior = self.network.encode(images).latent_dist
        return posterior.mean, posterior.std
