"""The autoencoder of latent diffusion: a convolutional VAE.

The network of "High-Resolution Image Synthesis with Latent Diffusion Models"
(https://github.com/CompVis/latent-diffusion, ldm/models/autoencoder.py) in the layout of diffusers
(https://github.com/huggingface/diffusers, models/autoencoders/autoencoder_kl.py), whose parameter
names its released checkpoints have (stabilityai/sd-vae-ft-ema). Its convolutions are those of
`llamagen_vq`, whose blocks serve here.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llamagen_vq import Downsample, Upsample, group_norm
from genclass.models.llamagen_vq import ResidualBlock as BaseResidualBlock

_LOG_VARIANCES = (-30.0, 20.0)  # the range that the released code clamps them to


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Shape of the autoencoder; the default is the released stride-8 one."""

    channels: tuple[int, ...] = (128, 256, 512, 512)  # one level each, the last keeps its size
    residual_blocks: int = 2  # a level, in the encoder; the decoder has one more
    latent_channels: int = 4
    groups: int = 32  # of every norm
    scaling: float = 0.18215  # what latents are multiplied by before a network reads them

    def __post_init__(self) -> None:
        sizes = (self.residual_blocks, self.latent_channels, self.groups)
        if not self.channels or min(*sizes, *self.channels) < 1:
            raise ValueError(f"AutoencoderKL: every size must be at least 1, got {self}")
        if uneven := [width for width in self.channels if width % self.groups]:
            raise ValueError(
                f"AutoencoderKL: channels {uneven[0]} must be a multiple of groups {self.groups}"
            )

    @property
    def stride(self) -> int:
        """Pixels along one side of a latent cell."""
        return int(2 ** (len(self.channels) - 1))


class ResidualBlock(BaseResidualBlock):
    """The blocks' own, with the shortcut's name of this layout."""

    shortcut = "conv_shortcut"


class AttentionBlock(nn.Module):
    """One head over all positions, 1/sqrt(channels), residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = group_norm(channels, groups)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).mT  # [b, h x w, channels]
        q, k, v = (part(h).unsqueeze(1) for part in (self.to_q, self.to_k, self.to_v))  # 1 head
        mixed = self.to_out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        total: Tensor = mixed.mT.reshape(x.shape) + x
        return total


class Level(nn.Module):
    """The blocks of one resolution, then the step to the next resolution, if there is one."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(outputs if index else inputs, outputs, groups) for index in range(blocks)
        )
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = block(x)
        return x


class Middle(nn.Module):
    """Residual, attention, residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        first = ResidualBlock(channels, channels, groups)
        self.attentions = nn.ModuleList([AttentionBlock(channels, groups)])
        self.resnets = nn.ModuleList([first, ResidualBlock(channels, channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return mixed


class Encoder(nn.Module):
    """[b, 3, height, width] -> [b, 2 x latent_channels, height / stride, width / stride]."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        widths, groups = config.channels, config.groups
        inputs = (widths[0], *widths)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, outputs in enumerate(widths):
            block = Level(inputs[level], outputs, config.residual_blocks, groups)
            if level < len(widths) - 1:
                block.downsamplers.append(Downsample(outputs))
            self.down_blocks.append(block)
        self.mid_block = Middle(widths[-1], groups)
        self.conv_norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for block in (*self.down_blocks, self.mid_block):
            x = block(x)
        moments: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return moments


class Decoder(nn.Module):
    """[b, latent_channels, h, w] -> [b, 3, h x stride, w x stride]. Level 0 is the latent's."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        widths, groups = config.channels[::-1], config.groups
        inputs = (widths[0], *widths)
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        for level, outputs in enumerate(widths):
            block = Level(inputs[level], outputs, config.residual_blocks + 1, groups)
            if level < len(widths) - 1:
                block.upsamplers.append(Upsample(outputs))
            self.up_blocks.append(block)
        self.conv_norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for block in (self.mid_block, *self.up_blocks):
            x = block(x)
        images: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return images


class AutoencoderKL(nn.Module):
    """The autoencoder. Images are [b, 3, height, width] in [-1, 1], sides multiples of stride.

    Latents are [b, latent_channels, h, w], before scaling.
    """

    def __init__(self, config: AutoencoderKLConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AutoencoderKLConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        moments, latent = 2 * config.latent_channels, config.latent_channels
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    @property
    def stride(self) -> int:
        return self.config.stride

    @property
    def scaling(self) -> float:
        return self.config.scaling

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> of each latent, the normal distribution's mean and log variance."""
        mean, log_variance = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents -> images, roughly in [-1, 1]."""
        images: Tensor = self.decoder(self.post_quant_conv(latent))
        return images


def posterior(autoencoder: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Of float32 [b, 3, h, w] in [-1, 1], the posterior's mean and standard deviation.

    Both are float32 [b, channels, h / stride, w / stride], before scaling.
    """
    mean, log_variance = autoencoder.encode(images)
    return mean, torch.exp(0.5 * log_variance)
