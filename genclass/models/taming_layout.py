"""The encoder and decoder of Taming Transformers' VQGAN, in its layout of names.

(https://github.com/CompVis/taming-transformers, taming/modules/diffusionmodules/model.py.) In
function its convolutions are those of `llamagen_vq`, whose blocks serve here; what differs among
the tokenizers that took it over is the attention block.
"""

from collections.abc import Callable, Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llamagen_vq import Downsample, ResidualBlock, Upsample, group_norm

Attention = Callable[[int], nn.Module]  # channels -> a block that keeps the shape


class Level(nn.Module):
    """The blocks of one resolution, then the step to the next resolution, if there is one."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: Attention | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(outputs if index else inputs, outputs) for index in range(blocks)
        )
        self.attn = nn.ModuleList(attention(outputs) for _ in range(blocks) if attention)
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        resized: Tensor = self.upsample(self.downsample(x))
        return resized


class Middle(nn.Module):
    """Residual, attention, residual."""

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = attention(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return mixed


class Encoder(nn.Module):
    """[b, 3, height, width] -> [b, latent, height / stride, width / stride].

    widths: channels of each resolution, from the image's to the code's; attention stands in the
    last of them and in the middle, whatever the size of the image.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], blocks: int, latent: int, attention: Attention
    ) -> None:
        super().__init__()
        deepest = len(widths) - 1
        inputs = (channels, *widths)
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList()
        for level, outputs in enumerate(widths):
            block = Level(inputs[level], outputs, blocks, attention if level == deepest else None)
            if level < deepest:
                block.downsample = Downsample(outputs)
            self.down.append(block)
        self.mid = Middle(widths[-1], attention)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for block in (*self.down, self.mid):
            x = block(x)
        latent: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return latent


class Decoder(nn.Module):
    """[b, latent, h, w] -> [b, 3, h x stride, w x stride]. Level 0 is the image's resolution."""

    def __init__(
        self, widths: Sequence[int], blocks: int, latent: int, attention: Attention
    ) -> None:
        super().__init__()
        deepest = len(widths) - 1
        inputs = (*widths[1:], widths[-1])
        self.conv_in = nn.Conv2d(latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], attention)
        self.up = nn.ModuleList()
        for level, outputs in enumerate(widths):
            block = Level(inputs[level], outputs, blocks, attention if level == deepest else None)
            if level > 0:
                block.upsample = Upsample(outputs)
            self.up.append(block)
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for block in (self.mid, *reversed(self.up)):
            x = block(x)
        images: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return images
