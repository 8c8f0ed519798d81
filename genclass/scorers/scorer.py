"""What every classifier offers to the evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.scorers.draws import Draws


@dataclass(frozen=True)
class Prepared:
    """An image as a classifier reads it: encoded once, with its draws.

    encoded: what the encoder made of it (codes or a latent), or the image itself where every
    trial crops it anew.
    """

    image: Image.Image
    draws: Draws
    encoded: Tensor | None


class Classifier(ABC):
    """Scores classes by log p(image | class), or a bound of it; higher is better.

    A score is a function of (image, draws, trial, class): of no batch, and of no other trial.
    """

    device: torch.device

    @abstractmethod
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        """Encode an image (RGB, any size), once for all trials and classes."""

    @abstractmethod
    def score_trial(self, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
        """Scores of some classes in one trial.

        classes: int64 [classes] on the classifier's device -> float32 [classes], there too.
        One forward pass a class.
        """

    @abstractmethod
    def score_pairs(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        tokens: int | None = None,
    ) -> Tensor:
        """Scores where every entry has its own image, trial and class: `score_trial`, mixed.

        classes: int64 [b] on the classifier's device -> float32 [b], there too. One forward pass
        an entry, all at once. tokens: where a trial is an order, its first tokens alone; None: all.
        """

    @torch.inference_mode()
    def score(self, prepared: Prepared, trials: range, classes: Tensor, class_batch: int) -> Tensor:
        """float32 [trials, classes]: `score_trial`, `class_batch` classes at a time."""
        return torch.stack(
            [
                torch.cat(
                    [self.score_trial(prepared, trial, c) for c in classes.split(class_batch)]
                )
                for trial in trials
            ]
        )

    @abstractmethod
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        """Where the image speaks for class `one` against class `other`.

        float32 [grid, grid] on the CPU, the mean over trials; its sum is the difference of the
        two classes' scores.
        """


def distinct(
    prepared: Sequence[Prepared], trials: Sequence[int]
) -> tuple[list[tuple[Prepared, int]], Tensor]:
    """The different (image, trial) among the entries, and which of them each entry is: [b]."""
    places: dict[tuple[int, int], int] = {}
    pairs: list[tuple[Prepared, int]] = []
    which = []
    for image, trial in zip(prepared, trials, strict=True):
        place = places.setdefault((id(image), trial), len(pairs))
        if place == len(pairs):
            pairs.append((image, trial))
        which.append(place)
    return pairs, torch.tensor(which)


def device_tensor(values: Any, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    return torch.as_tensor(values).to(device, non_blocking=True)
