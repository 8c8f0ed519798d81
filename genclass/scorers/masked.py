"""The arithmetic of masked scoring: which tokens a trial hides, and what it is worth.

A trial hides a part of an image's tokens, and a class's score is the mean, over the hidden
places, of log p(true code | tokens that are not hidden, class). The mean gives every trial the
same weight, however much it hides, which makes the mean over levels a bound on the likelihood of
discrete diffusion, divided by the number of tokens.

Two families hide in two ways, both in `levels` steps, which trials visit in spread order (see
`spread.level_of`), so that few trials see little, middling and much hidden:

* MaskGIT: each token is masked by itself with a probability, `masking_ratios`. The official
  script visits them one after the other, so that the first k trials are the most masked ones,
  and counts a mask that came out empty as a trial that scores 0 for every class; here it is
  drawn again.
* RandAR by masked diffusion: a fixed number of tokens, `visible_counts`, in random places, is
  visible. The official script visits the counts in rising order. With its raster option the
  hidden part is always the bottom of the picture; here places are random.

Both official scripts draw from one stream over all images; here a trial's draw is the caller's.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

MaskingSchedule = Literal["arccos", "linear", "square", "cosine"]


def masking_ratios(levels: int, schedule: MaskingSchedule = "arccos") -> list[float]:
    """Probabilities of a token to be masked, of Maskgit-pytorch: float32 values in (0, 1).

    With r = j / (levels + 1), j = 1 .. levels: arccos(r) / (pi/2), as in training; r; r^2; or
    cos(r pi/2). They fall with j where the schedule is arccos or cosine.

    Raises:
        ValueError: levels < 1, or no such schedule.
    """
    if levels < 1:
        raise ValueError(f"at least 1 masking ratio is needed, got {levels}")
    r = torch.linspace(0, 1, levels + 2)[1:-1]
    if schedule == "arccos":
        ratios = torch.arccos(r) / (math.pi / 2)
    elif schedule == "linear":
        ratios = r
    elif schedule == "square":
        ratios = r**2
    elif schedule == "cosine":
        ratios = torch.cos(r * math.pi / 2)
    else:
        raise ValueError(f"no masking schedule {schedule!r}")
    return [float(ratio) for ratio in ratios]


def draw_mask(generator: np.random.Generator, tokens: int, ratio: float) -> Tensor:
    """Each of n tokens masked with probability `ratio`, at least one: bool [n], on the CPU.

    An empty mask, which would say nothing about the classes, is drawn again from the same
    generator: the law is that of independent masking, given that something is masked.

    Raises:
        ValueError: the ratio is not in (0, 1], or there are no tokens.
    """
    if not 0 < ratio <= 1 or tokens < 1:
        raise ValueError(f"cannot mask {tokens} tokens with probability {ratio}")
    while True:
        masked = generator.random(tokens, dtype=np.float32) < np.float32(ratio)
        if masked.any():
            return torch.from_numpy(masked)


def mean_over_masked(log_probs: Tensor, masked: Tensor) -> Tensor:
    """The score of a mask: the mean of log_probs [.., n] where masked [.., n] bool: [..].

    Both may broadcast. At least one place of each must be masked.
    """
    return (log_probs * masked).sum(dim=-1) / masked.sum(dim=-1)


def visible_counts(tokens: int, levels: int) -> list[int]:
    """Numbers of visible tokens, n/(2 levels) + j n/levels rounded down, j = 0 .. levels - 1.

    Always fewer than n, so that something is hidden. In integers: the official floating-point
    steps may lose or gain a level by rounding.

    Raises:
        ValueError: levels < 1.
    """
    if levels < 1:
        raise ValueError(f"at least 1 level of visible tokens is needed, got {levels}")
    return [(2 * level + 1) * tokens // (2 * levels) for level in range(levels)]
