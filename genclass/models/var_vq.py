"""VAR's image tokenizer: a VQ autoencoder whose codes lie in token maps of growing sides.

The network of "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale
Prediction" (https://github.com/FoundationVision/VAR, models/vqvae.py, models/quant.py), with the
parameter names of its released checkpoint (vae_ch160v4096z32). One vocabulary serves all scales:
each scale's codes name what the scales before left over of the latent. An early code that falls
the other way changes every later one, so it must run in float32 without TF32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llamagen_vq import NORM_GROUPS, group_norm
from genclass.models.taming_layout import Decoder, Encoder

REFINEMENTS = 4  # convolutions that the scales share


SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # of the token maps of an image of 256 pixels


@dataclass(frozen=True)
class VARVQConfig:
    """Shape of the autoencoder; the default is the released stride-16 one, for 256 pixels."""

    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the channels, one per resolution
    residual_blocks: int = 2  # a level, in the encoder; the decoder has one more
    codebook: int = 4096
    code_width: int = 32
    sides: tuple[int, ...] = SIDES  # of the token maps; the last is the latent's

    def __post_init__(self) -> None:
        counts = (self.residual_blocks, self.codebook, self.code_width)
        if not self.multipliers or min(*counts, self.channels, *self.multipliers) < 1:
            raise ValueError(f"VAR VQ: every size must be at least 1, got {self}")
        if self.channels % NORM_GROUPS:
            raise ValueError(
                f"VAR VQ: channels {self.channels} must be a multiple of {NORM_GROUPS}, "
                "the groups of its norms"
            )
        check_sides(self.sides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from the image's to the code's."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def stride(self) -> int:
        """Pixels along one side of a code of the last scale."""
        return 2 ** (len(self.multipliers) - 1)


def check_sides(sides: tuple[int, ...]) -> None:
    """Raises ValueError: not two or more sides, each larger than the one before."""
    if len(sides) < 2 or sides[0] < 1 or any(a >= b for a, b in pairwise(sides)):
        raise ValueError(f"VAR: the token maps' sides must be two or more and grow, got {sides}")


class AttentionBlock(nn.Module):
    """One head over all positions, 1/sqrt(channels), residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm(x)).chunk(3, dim=1)
        # [b, channels, h, w] -> [b, 1 head, h x w, channels]
        q, k, v = (part.flatten(2).mT.unsqueeze(1) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.view_as(x)
        projected: Tensor = self.proj_out(mixed)
        return x + projected


class Refinements(nn.Module):
    """Convolutions that smooth an enlarged token map, half and half; near scales share one."""

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(REFINEMENTS)
        )
        # In float64 and written as the official code does: some scales lie half way between two
        # ticks, and only the rounding says which of them is nearer.
        ticks = np.linspace(1 / 3 / REFINEMENTS, 1 - 1 / 3 / REFINEMENTS, REFINEMENTS)
        self.serving = tuple(
            int(np.argmin(np.abs(ticks - scale / (scales - 1)))) for scale in range(scales)
        )

    def forward(self, h: Tensor, scale: int) -> Tensor:
        refined: Tensor = self.qresi_ls[self.serving[scale]](h)
        return 0.5 * h + 0.5 * refined


class Quantizer(nn.Module):
    """Residual quantisation, scale after scale.

    Codes of an image are one row, scale after scale, each row after row. Everything that takes
    codes also takes those of the first scales alone.
    """

    ema_vocab_hit_SV: Tensor

    def __init__(self, config: VARVQConfig) -> None:
        super().__init__()
        self.sides = config.sides
        self.ends = tuple(np.cumsum(np.square(config.sides)).tolist())  # tokens of 1, 2, .. scales
        self.embedding = nn.Embedding(config.codebook, config.code_width)
        self.quant_resi = Refinements(config.code_width, len(config.sides))
        # The original training's record of used codes: in every checkpoint, never read.
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(len(config.sides), config.codebook))

    def forward(self, latent: Tensor, scales: int | None = None) -> Tensor:
        """Nearest codes by Euclidean distance, of the first scales (None: of all).

        latent: [b, code_width, s, s], s the last side -> codes [b, tokens] long.
        """
        return torch.cat([codes.flatten(1) for _, codes in self._quantised(latent, scales)], dim=1)

    def points(self, latent: Tensor) -> Tensor:
        """What the codes are nearest to: [b, code_width, s, s] -> [b x tokens, code_width]."""
        points = [points.permute(0, 2, 3, 1) for points, _ in self._quantised(latent, None)]
        return torch.cat([each.flatten(0, 2) for each in points])

    def latents(self, codes: Tensor) -> Iterator[Tensor]:
        """What the codes up to each scale say of the latent, one [b, code_width, s, s] a scale.

        codes: [b, tokens] long.
        """
        total: Tensor | None = None
        for scale, (side, part) in enumerate(zip(self.sides, self._by_scale(codes), strict=False)):
            found = self._contribution(part.unflatten(1, (side, side)), scale)
            total = found if total is None else total + found
            yield total

    def inputs(self, codes: Tensor) -> Tensor:
        """What the transformer reads: at each place the latent of all scales before its own.

        codes: [b, tokens] long -> [b, tokens - 1, code_width]; the first place reads nothing,
        and the last scale's codes enter nothing.
        """
        scales = len(self._by_scale(codes))
        if scales == 1:
            return self.embedding.weight.new_empty(len(codes), 0, self.embedding.embedding_dim)
        known = self.latents(codes[:, : self.ends[scales - 2]])
        shrunk = [
            self._shrunk(latent, side) for latent, side in zip(known, self.sides[1:], strict=False)
        ]
        return torch.cat([latent.flatten(2).mT for latent in shrunk], dim=1)

    def _by_scale(self, codes: Tensor) -> tuple[Tensor, ...]:
        """[b, tokens] -> one [b, side^2] for each scale that they are."""
        if codes.shape[1] not in self.ends:
            raise ValueError(
                f"{codes.shape[1]} codes end in the midst of a scale; the scales end at "
                f"{', '.join(map(str, self.ends))}"
            )
        scales = self.ends.index(codes.shape[1]) + 1
        return codes.split([side**2 for side in self.sides[:scales]], dim=1)

    def _quantised(self, latent: Tensor, scales: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the first scales: what is left to say at each place of its map, and the codes."""
        if latent.shape[-2:] != (self.sides[-1], self.sides[-1]):
            raise ValueError(
                f"a latent of {latent.shape[-2]} x {latent.shape[-1]} does not fit the last token "
                f"map's side, {self.sides[-1]}"
            )
        rest = latent
        for scale, side in enumerate(self.sides[:scales]):
            points = self._shrunk(rest, side)
            codes = self._nearest(points)
            yield points, codes
            rest = rest - self._contribution(codes, scale)

    def _nearest(self, points: Tensor) -> Tensor:
        """[b, code_width, h, w] -> [b, h, w]; a point's own length changes nothing."""
        vectors = self.embedding.weight
        products = torch.einsum("bchw,kc->bhwk", points, vectors)
        return (vectors.square().sum(dim=1) - 2 * products).argmin(dim=-1)

    def _contribution(self, codes: Tensor, scale: int) -> Tensor:
        """[b, side, side] long -> what they add to the latent, [b, code_width, s, s]."""
        full = (self.sides[-1], self.sides[-1])
        h = self.embedding(codes).permute(0, 3, 1, 2)
        if codes.shape[-2:] != full:
            h = F.interpolate(h, full, mode="bicubic")
        refined: Tensor = self.quant_resi(h, scale)
        return refined

    def _shrunk(self, latent: Tensor, side: int) -> Tensor:
        return (
            latent if side == self.sides[-1] else F.interpolate(latent, (side, side), mode="area")
        )


class VARVQ(nn.Module):
    """The autoencoder. Images are [b, 3, size, size] in [-1, 1], size = stride x the last side.

    `quantize` is the quantizer: latent -> codes, codes -> inputs of the transformer.
    """

    def __init__(self, config: VARVQConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VARVQConfig()
        channels, widths, blocks = config.channels, config.widths, config.residual_blocks
        width = config.code_width
        self.encoder = Encoder(channels, widths, blocks, width, AttentionBlock)
        self.decoder = Decoder(widths, blocks + 1, width, AttentionBlock)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(width, width, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(width, width, 3, padding=1)

    def encode(self, images: Tensor) -> Tensor:
        """Images -> latent [b, code_width, s, s], before quantisation."""
        size = self.config.stride * self.config.sides[-1]
        if images.shape[-2:] != (size, size):
            raise ValueError(
                f"an image of {images.shape[-2]} x {images.shape[-1]} pixels is not {size} x "
                f"{size}, the size of these token maps"
            )
        latent: Tensor = self.quant_conv(self.encoder(images))
        return latent

    def decode(self, codes: Tensor) -> Tensor:
        """codes [b, tokens] long, also of the first scales alone -> images, within [-1, 1]."""
        *_, latent = self.quantize.latents(codes)
        return self.decode_latent(latent).clamp(-1, 1)

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Latent [b, code_width, s, s] -> images, roughly in [-1, 1]."""
        images: Tensor = self.decoder(self.post_quant_conv(latent))
        return images

    def quantize_with_gradient(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For training: (straight-through latent, codes, codebook loss, commitment loss).

        The straight-through latent has the value of what the codes say and the latent's gradient;
        the losses are the mean over the scales of the squared difference between the latent and
        what the codes up to that scale say of it.
        """
        codes: Tensor = self.quantize(latent.detach())
        known = list(self.quantize.latents(codes))
        codebook_loss = torch.stack([F.mse_loss(each, latent.detach()) for each in known]).mean()
        commitment_loss = torch.stack([F.mse_loss(latent, each.detach()) for each in known]).mean()
        straight = latent + (known[-1] - latent).detach()
        return straight, codes, codebook_loss, commitment_loss
