"""The autoencoder of latent diffusion: diffusers' AutoencoderKL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def autoencoder_kl(
    channels: Sequence[int], residual_blocks: int, latent_channels: int, groups: int, scaling: float
) -> nn.Module:
    """An AutoencoderKL with random weights.

    channels: of each level, the last of which keeps its size; scaling: what latents are multiplied
    by. It has two attributes besides: `stride`, pixels along one side of a latent cell, and
    `scaling`.
    """
    # Imported here: diffusers takes seconds to import, and only these models need it.
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(channels)
    network: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(channels),
        layers_per_block=residual_blocks,
        latent_channels=latent_channels,
        norm_num_groups=groups,
    )
    network.stride = 2 ** (levels - 1)
    network.scaling = scaling
    module: nn.Module = network
    return module


def posterior(autoencoder: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Of float32 [b, 3, h, w] in [-1, 1], the posterior's mean and standard deviation.

    Both are float32 [b, channels, h / stride, w / stride], before scaling.
    """
    found = autoencoder.encode(images).latent_dist
    return found.mean, found.std
