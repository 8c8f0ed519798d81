"""How a model spends its budget: exhaustively, by racing, or on a fixed schedule."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, field_validator

from genclass.section import PositiveInt, Section


class ExhaustiveStrategy(Section):
    """Every candidate in every trial."""

    kind: Literal["exhaustive"] = "exhaustive"

    @property
    def tokens(self) -> int | None:
        """Of the first order, how many tokens are looked at alone, before its whole."""
        return None


class Spread(Section):
    """How far a difference of two close classes strays; see docs/racing.md."""

    scale: Annotated[float, Field(gt=0)]  # its standard deviation
    freedom: Annotated[float, Field(gt=0)]  # how alike pairs of classes are in it


class NoiseOfTrials(Spread):
    """The spread of one trial's difference."""

    shares: list[Annotated[float, Field(gt=0)]] | None = None  # of each trial; None: all the same
    first_tokens: Spread | None = None  # of an order's first tokens alone


class RacingStrategy(Section):
    """A class is dropped once its paired deficit to the leader is significant."""

    kind: Literal["racing"]
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1  # error, of each image
    first_tokens: PositiveInt | None = None  # of the first order, before its whole; None: no look
    first_trials: PositiveInt = 1  # all who are left are given these
    noise: NoiseOfTrials | None = None  # None: measured by a pilot before the race

    @property
    def tokens(self) -> int | None:
        return self.first_tokens


class FixedStrategy(Section):
    """After so many trials, so many classes are kept: [[trials, keep], ...]."""

    kind: Literal["fixed"]
    first_tokens: tuple[PositiveInt, PositiveInt] | None = None  # [tokens, keep], before any trial
    rounds: Annotated[list[tuple[PositiveInt, PositiveInt]], Field(min_length=1)]

    @field_validator("rounds")
    @classmethod
    def _narrowing(cls, rounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
        for (trials, keep), (later, fewer) in itertools.pairwise(rounds):
            if later <= trials or fewer >= keep:
                raise ValueError(
                    "each [trials, keep] needs more trials and fewer classes than the one before it"
                )
        return rounds

    @property
    def tokens(self) -> int | None:
        return self.first_tokens[0] if self.first_tokens else None


Strategy = Annotated[
    ExhaustiveStrategy | RacingStrategy | FixedStrategy, Field(discriminator="kind")
]
