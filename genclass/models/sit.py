"""SiT, the transformer of DiT trained to predict a velocity (flow matching).

The networks of "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable
Interpolant Transformers" (https://github.com/willisma/SiT, models.py) and, with projectors, of
"Representation Alignment for Generation" (REPA, https://github.com/sihyun-yu/REPA,
models/sit.py), with the parameter names of their released checkpoints.

What the velocity means, and so how noise follows from it, differs between the two releases and
is the classifier's business: SiT has x_t = t x + (1-t) noise, velocity = x - noise; SiT + REPA
has x_t = (1-t) x + t noise, velocity = noise - x. Both take t in [0, 1] as it is.
"""

from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from genclass.models.dit import DiT, DiTConfig


@dataclass(frozen=True)
class SiTConfig(DiTConfig):
    """Shape of a SiT.

    The variance channels of the released SiT-XL/2 mean nothing; SiT-XL/2 + REPA has none, and is
    aligned to one encoder: `learn_sigma=False, aligned_to=(768,)`.
    """

    aligned_to: tuple[int, ...] = ()  # REPA: widths of the encoders it was aligned to
    projector_width: int = 2048


def projector(config: SiTConfig, encoder_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.width, config.projector_width),
        nn.SiLU(),
        nn.Linear(config.projector_width, config.projector_width),
        nn.SiLU(),
        nn.Linear(config.projector_width, encoder_width),
    )


class SiT(DiT):
    """A DiT whose outputs are velocities: `predict` and `predict_classes` give velocities."""

    config: SiTConfig

    def __init__(self, config: SiTConfig) -> None:
        super().__init__(config)
        if config.aligned_to:
            # Used only while REPA trains; here so that its checkpoints load in full.
            self.projectors = nn.ModuleList(projector(config, w) for w in config.aligned_to)

    def forward(self, x: Tensor, t: Tensor | float, classes: Tensor) -> Tensor:
        """x: [b, channels, s, s]; t: [b] or one number; classes: [b] -> velocity, like x."""
        return self.predict(x, t, classes)
