"""How a model spends its budget: exhaustively, by racing, or on a fixed schedule."""

from __future__ import annotations

import itertools
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from genclass.section import PositiveInt, Section


class ExhaustiveStrategy(Section):
    """Every candidate in every trial."""

    kind: Literal["exhaustive"] = "exhaustive"
    replayable: ClassVar[bool] = True
    needs_pilot: ClassVar[bool] = False

    def whole_trials(self, trials: int) -> int:
        """Of so many, in how many of the first every candidate of every image is scored."""
        return trials

    def scores_of_parts(self, candidates: int) -> dict[int, int]:
        """How many classes of an image are scored on the first parts of a trial alone."""
        return {}


class NoiseOfTrials(Section):
    """How far one trial's difference of two close classes strays; see docs/racing.md."""

    scale: Annotated[float, Field(gt=0)]  # its standard deviation
    degrees_of_freedom: Annotated[float, Field(gt=0)]  # how alike pairs of classes are in it


class RacingStrategy(Section):
    """A class is dropped once its paired deficit to the leader is significant."""

    kind: Literal["racing"]
    replayable: ClassVar[bool] = True
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1  # error, of an image that is as noisy as told
    first_trials: PositiveInt = 1  # all are given these
    noise: NoiseOfTrials | None = None  # None: measured by a pilot before the race

    @property
    def needs_pilot(self) -> bool:
        return self.noise is None

    def whole_trials(self, trials: int) -> int:
        """Of so many, in how many of the first every candidate of every image is scored."""
        return min(self.first_trials, trials)

    def scores_of_parts(self, candidates: int) -> dict[int, int]:
        """How many classes of an image are scored on the first parts of a trial alone."""
        return {}


class FixedStrategy(Section):
    """After so many trials, so many classes are kept: [[trials, keep], ...]."""

    kind: Literal["fixed"]
    parts: list[tuple[PositiveInt, PositiveInt]] = []  # [part, keep] of the first trial, before
    rounds: list[tuple[PositiveInt, PositiveInt]] = []

    needs_pilot: ClassVar[bool] = False

    @property
    def replayable(self) -> bool:
        """Can its answers be had from exhaustive scores, which are of whole trials?"""
        return not self.parts

    @model_validator(mode="after")
    def _narrowing(self) -> FixedStrategy:
        if not self.rounds and not self.parts:
            raise ValueError("`rounds` is missing: add [[trials, keep], ...]")
        for name, steps in (("part", self.parts), ("trials", self.rounds)):
            for (first, keep), (later, fewer) in itertools.pairwise(steps):
                if later <= first or fewer >= keep:
                    raise ValueError(
                        f"each [{name}, keep] needs more {name.removesuffix('s')}s and fewer "
                        f"classes than the one before it"
                    )
        return self

    def whole_trials(self, trials: int) -> int:
        """Of so many, in how many of the first every candidate of every image is scored."""
        return 0 if self.parts else min(self.rounds[0][0], trials)

    def scores_of_parts(self, candidates: int) -> dict[int, int]:
        """How many classes of an image are scored on the first parts of a trial alone."""
        counts, going = {}, candidates
        for part, keep in self.parts:
            counts[part] = going
            going = min(going, keep)
        return counts


Strategy = Annotated[
    ExhaustiveStrategy | RacingStrategy | FixedStrategy, Field(discriminator="kind")
]
