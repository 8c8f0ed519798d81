"""Masked scorers: log p of tokens that are hidden given those that are not; a trial is one mask.

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
* RandAR by masked diffusion: a fixed number of tokens, in random places, is visible. The official
  script visits the counts in rising order. With its raster option the hidden part is always the
  bottom of the picture; here places are random.

Both official scripts draw from one stream over all images; here an image has its own draws.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop
from genclass.families.card import System
from genclass.families.maskgit import MaskingScoring
from genclass.families.randar import MaskedScoring, visible_counts
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, distinct
from genclass.scorers.spread import level_of
from genclass.scorers.tokens import TokenScorer

MaskingSchedule = Literal["arccos", "linear", "square", "cosine"]


class MaskedScorer(TokenScorer):
    """A network that guesses hidden tokens from visible ones, with its tokenizer."""

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        latent = self.encode(center_crop(image, self.system.image_size))
        return Prepared(image, draws, self.encoder.quantize(latent).flatten())

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        if len(pairs) == 1:
            return self.hidden_log_probs(*pairs[0], classes)[1].mean(dim=1)
        return self.score_mixed(pairs, torch.tensor(which), classes)

    @torch.inference_mode()
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        config = self.network.config
        pair = torch.tensor([one, other], device=self.device)
        total = torch.zeros(config.tokens)
        for trial in trials:
            places, log_p = self.hidden_log_probs(prepared, trial, pair)
            total[places] += ((log_p[0] - log_p[1]) / len(places)).cpu()
        return (total / len(trials)).view(config.grid, config.grid)

    @abstractmethod
    def hidden_log_probs(
        self, prepared: Prepared, trial: int, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The places that a trial hides, int64 [m] on the CPU, and log p there: [classes, m]."""

    @abstractmethod
    def score_mixed(
        self, pairs: Sequence[tuple[Prepared, int]], which: Tensor, classes: Tensor
    ) -> Tensor:
        """`score` of several images and trials.

        which: int64 [b] on the CPU, the place of each entry's image and trial among `pairs`;
        classes: int64 [b] on the device -> float32 [b], there too.
        """


class MaskingScorer(MaskedScorer):
    """MaskGIT: every token is masked by itself, with the probability of the trial's level."""

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        super().__init__(system, network, encoder, device)
        assert isinstance(system.options, MaskingScoring)
        self.ratios = masking_ratios(system.options.levels, system.options.schedule)

    def mask(self, draws: Draws, trial: int) -> Tensor:
        """The mask of a trial, never an empty one: bool [n] on the CPU, True where masked."""
        ratio = self.ratios[level_of(trial, len(self.ratios))]
        return draw_mask(draws.generator("mask", trial), self.network.config.tokens, ratio)

    def hidden_log_probs(
        self, prepared: Prepared, trial: int, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        mask = self.mask(prepared.draws, trial)
        places = mask.nonzero().flatten()
        log_p: Tensor = self.network.token_log_probs(
            prepared.encoded, mask.to(self.device, non_blocking=True), classes
        )
        return places, log_p[:, places.to(self.device, non_blocking=True)]

    def score_mixed(
        self, pairs: Sequence[tuple[Prepared, int]], which: Tensor, classes: Tensor
    ) -> Tensor:
        places = which.to(self.device, non_blocking=True)
        codes = torch.stack([image.encoded for image, _ in pairs])[places]
        masks = torch.stack([self.mask(image.draws, trial) for image, trial in pairs])
        masks = masks.to(self.device, non_blocking=True)[places]
        log_p: Tensor = self.network.token_log_probs_batch(codes, masks, classes)
        return mean_over_masked(log_p, masks)


class HiddenTokensScorer(MaskedScorer):
    """RandAR by masked diffusion: the first tokens of a random order are visible."""

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        super().__init__(system, network, encoder, device)
        assert isinstance(system.options, MaskedScoring)
        self.counts = visible_counts(network.config.tokens, system.options.levels)

    def order(self, draws: Draws, trial: int) -> tuple[Tensor, int]:
        """int64 [n] on the CPU, the visible tokens' places first, and how many they are."""
        order = draws.permutation(self.network.config.tokens, trial)
        return order, self.counts[level_of(trial, len(self.counts))]

    def hidden_log_probs(
        self, prepared: Prepared, trial: int, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        order, visible = self.order(prepared.draws, trial)
        log_p: Tensor = self.network.hidden_log_probs(
            prepared.encoded, order.to(self.device, non_blocking=True), visible, classes
        )
        return order[visible:], log_p

    def score_mixed(
        self, pairs: Sequence[tuple[Prepared, int]], which: Tensor, classes: Tensor
    ) -> Tensor:
        """In one batch for each number of visible tokens: sequences of one length."""
        drawn = [self.order(image.draws, trial) for image, trial in pairs]
        orders = torch.stack([order for order, _ in drawn]).to(self.device, non_blocking=True)
        counts = torch.tensor([visible for _, visible in drawn])[which]
        codes = torch.stack([image.encoded for image, _ in pairs])
        scores = torch.empty(len(classes), device=self.device)
        for visible in counts.unique().tolist():
            rows = (counts == visible).nonzero().flatten()
            places = which[rows].to(self.device, non_blocking=True)
            rows = rows.to(self.device, non_blocking=True)
            log_p = self.network.hidden_log_probs_batch(
                codes[places], orders[places], visible, classes[rows]
            )
            scores[rows] = log_p.mean(dim=1)
        return scores


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
