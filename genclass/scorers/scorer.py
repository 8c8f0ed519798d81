"""What every way to score classes offers to an evaluation. torch is imported where it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor, nn

    from genclass.families.card import System
    from genclass.scorers.draws import Draws


@dataclass(frozen=True)
class Prepared:
    """An image as a scorer reads it: encoded once, with its draws.

    encoded: what became of it (codes, a latent, the scores of all classes), or None where every
    trial reads the image itself.
    """

    image: Image.Image
    draws: Draws
    encoded: Any


class Scorer(ABC):
    """A network on its device that scores classes; higher is better.

    Three promises, tested for every family: a score is a function of (image, draws, trial, class),
    of no batch and of no other trial; all classes of an image see the same draws; all randomness
    comes from `Draws`, so that trials are nested.
    """

    @abstractmethod
    def __init__(
        self, system: System, network: nn.Module, encoder: Any, device: torch.device
    ) -> None:
        """Both are as their checkpoints are: in float32, on the CPU or the device.

        Raises:
            GenclassError: network, encoder and image size do not fit each other.
        """
        self.system = system
        self.device = device
        self.network: Any = network
        self.encoder = encoder

    @abstractmethod
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        """Encode an image (RGB, any size), once for all trials and classes."""

    @abstractmethod
    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        """The scores of a batch of entries, each with its own image, trial and class.

        Where all entries have one image and trial, what classes share is computed once. Called
        under `torch.inference_mode`.

        classes: int64 [b] on the device -> float32 [b], there too. part: score the first parts of
        the trials alone, where they have parts (`Work.parts`); None: the whole.
        """

    def compile(self) -> None:  # noqa: B027 - it may do nothing
        """Make scoring faster, where that takes a while: a job of much work calls it, once."""

    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor | None:
        """Where the image speaks for class `one` against class `other`; None: this cannot be said.

        float32 [grid, grid] on the CPU, the mean over trials; its sum is the difference of the
        two classes' scores.
        """
        return None


def distinct(
    prepared: Sequence[Prepared], trials: Sequence[int]
) -> tuple[list[tuple[Prepared, int]], list[int]]:
    """The different (image, trial) among the entries, and which of them each entry is."""
    places: dict[tuple[int, int], int] = {}
    pairs: list[tuple[Prepared, int]] = []
    which = []
    for image, trial in zip(prepared, trials, strict=True):
        place = places.setdefault((id(image), trial), len(pairs))
        if place == len(pairs):
            pairs.append((image, trial))
        which.append(place)
    return pairs, which
