"""Schedules: which classes of an image go on, given what its trials have shown so far.

All classes of an image see the same trials, so the difference of two classes' scores is paired
and far less noisy than the scores. A schedule looks at the running scores of one image every few
trials and says which classes are scored again. Those that are left share all their trials, and
the best mean among them is the answer. docs/racing.md derives the bound and says when it fails.

The scores of a race are float [trials, classes], NaN from the trial on where a class had dropped
out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genclass.config import FixedStrategy, RacingStrategy, Strategy
from genclass.errors import GenclassError
from genclass.racing.noise import Noise, looks, significant

_MANY_CLASSES = 100
_TOLD_FREEDOM = 16.0  # above it, the tails that are told are nearly normal ones


class Schedule(Protocol):
    """When to look at an image's scores, and who goes on."""

    @property
    def parts(self) -> Sequence[int]:
        """Before whole trials, the first is looked at after so many of its parts: ascending."""

    def admitted(self, scores: np.ndarray, part: int) -> np.ndarray:
        """Of classes that were scored on the first parts, who goes on: bool [classes], one at
        least. scores: float [classes]."""

    def looks(self, budget: int) -> list[int]:
        """After how many trials to look: ascending, each at least 1 and below the budget.

        All who are admitted are scored up to the first look, the survivors from look to look, and
        those of the last look up to the budget.
        """

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        """Of the classes alive, those that go on: bool [classes], at least one.

        scores: [trials so far, classes], as many trials as one of the looks has; alive are those
        with a score in the last. Depends on nothing but these scores, so on no other image.
        """


@dataclass(frozen=True)
class Exhaustive:
    """Every class in every trial."""

    parts: tuple[int, ...] = ()

    def admitted(self, scores: np.ndarray, part: int) -> np.ndarray:
        return np.ones(len(scores), dtype=bool)

    def looks(self, budget: int) -> list[int]:
        return []

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        return alive(scores)


@dataclass(frozen=True)
class Fixed:
    """After so many trials, keep so many classes, whatever the scores: (trials, keep), in order.

    The pruning of Diffusion Classifier (Li et al. 2023). ((k, 1),) is exhaustive scoring with a
    budget of k. pruning: before that, after so many parts of the first trial, as A-VARC+ (Chen et
    al. 2025) does with the scales of an image: (part, keep), in order.
    """

    rounds: tuple[tuple[int, int], ...]
    pruning: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name, what, steps in (
            ("rounds", "trials", self.rounds),
            ("parts", "part", self.pruning),
        ):
            first, keep = ([step[i] for step in steps] for i in (0, 1))
            ordered = first == sorted(set(first)) and keep == sorted(set(keep), reverse=True)
            if not ordered or min(first + keep, default=1) < 1:
                raise GenclassError(
                    f"racing: {name} {[list(step) for step in steps]}: each [{what}, keep] needs "
                    f"more {what.removesuffix('s')}s and fewer classes than the one before it, "
                    f"both at least 1"
                )
        if not self.rounds and not self.pruning:
            raise GenclassError("racing: a fixed schedule needs rounds or parts")

    @classmethod
    def parse(cls, text: str) -> Fixed:
        """From `TRIALS:KEEP,TRIALS:KEEP,...`.

        Raises:
            GenclassError: the text is something else.
        """
        try:
            rounds = [tuple(map(int, pair.split(":"))) for pair in text.split(",")]
            return cls(tuple((trials, keep) for trials, keep in rounds))
        except ValueError:
            raise GenclassError(
                f"rounds '{text}': expected TRIALS:KEEP,..., for example 1:100,4:10"
            ) from None

    @property
    def parts(self) -> tuple[int, ...]:
        return tuple(part for part, _ in self.pruning)

    def admitted(self, scores: np.ndarray, part: int) -> np.ndarray:
        return _best(scores, dict(self.pruning)[part])

    def looks(self, budget: int) -> list[int]:
        return [trials for trials, _ in self.rounds if trials < budget]

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        total = np.where(alive(scores), scores.sum(axis=0, dtype=np.float64), -np.inf)
        return alive(scores) & _best(total, dict(self.rounds)[len(scores)])


@dataclass(frozen=True)
class Racing:
    """Drop a class once its deficit to the leader is significant.

    The class that the whole budget would choose is dropped with a probability of `delta` at most,
    over all looks and all classes, on images whose differences are as `noise` says.
    """

    noise: Noise
    delta: float = 0.1
    first_trials: int = 1  # all are given these
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1 or self.first_trials < 1:
            raise GenclassError(
                f"racing: delta {self.delta} must lie between 0 and 1, and first_trials "
                f"{self.first_trials} be at least 1"
            )

    def admitted(self, scores: np.ndarray, part: int) -> np.ndarray:
        return np.ones(len(scores), dtype=bool)

    def looks(self, budget: int) -> list[int]:
        return looks(budget, self.first_trials)

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        going = alive(scores)
        running = scores[:, going].astype(np.float64)
        leader = (self.noise.seen(budget, len(scores)).weights @ running).argmax()
        level = self.level(scores.shape[1], budget, len(scores))
        going[going] = ~significant(running[:, [leader]] - running, self.noise, budget, level)
        return going

    def level(self, classes: int, budget: int, trials: int) -> float:
        """The error of one comparison at the look after so many trials.

        Over all comparisons and looks they add up to `delta`. The first looks, where most classes
        are alive and little is known of an image's noise, may err the most: as 1 / trials.
        """
        shares = sum(trials / look for look in self.looks(budget))
        return self.delta / (max(classes - 1, 1) * shares)


@dataclass(frozen=True)
class Step:
    """What is to be scored next of an image: some classes, all in the same trials.

    columns: int64 [classes]; part: of each trial, its first parts alone.
    """

    trials: range
    columns: np.ndarray
    part: int | None = None


def walk(schedule: Schedule, budget: int, classes: int) -> Generator[Step, np.ndarray, np.ndarray]:
    """One image's way through a schedule, the same for a race, its replay and its rehearsal.

    Yields what is to be scored, is sent its scores, float [trials, columns], and returns those of
    whole trials: float32 [budget, classes], NaN where nothing was scored. Whoever passes the looks
    at parts is scored in whole trials: a part is not reused.
    """
    scores = np.full((budget, classes), np.nan, dtype=np.float32)
    going = np.arange(classes)
    for part in schedule.parts:
        found = yield Step(range(1), going, part)
        going = going[schedule.admitted(found[0], part)]
    done = 0
    for look in [*schedule.looks(budget), budget]:
        scores[done:look, going] = yield Step(range(done, look), going)
        done = look
        if done < budget:
            going = np.flatnonzero(schedule.survivors(scores[:done], budget))
        if len(going) == 1:
            break
    return scores


def race_scores(
    scores: np.ndarray, schedule: Schedule, parts: Callable[[int], np.ndarray] | None = None
) -> np.ndarray:
    """One image's exhaustive scores [trials, classes], NaN where a race would not have looked.

    parts: the first trial's scores of its first parts alone, float [classes]; score files hold
    none.

    Raises:
        GenclassError: the schedule looks at parts, and there are no scores of them.
    """
    if schedule.parts and parts is None:
        raise GenclassError(
            "a schedule that looks at parts of a trial cannot be replayed: scores are of whole "
            "trials"
        )
    steps = walk(schedule, *scores.shape)
    step = next(steps)
    while True:
        known = scores[step.trials]
        if step.part is not None and parts is not None:
            known = np.asarray(parts(step.part))[None]
        try:
            step = steps.send(known[:, step.columns])
        except StopIteration as end:
            raced: np.ndarray = end.value
            return raced.astype(scores.dtype, copy=False)


def alive(scores: np.ndarray) -> np.ndarray:
    """The classes that were scored in the last trial: bool [classes]."""
    result: np.ndarray = ~np.isnan(scores[-1])
    return result


def ranking(scores: np.ndarray) -> np.ndarray:
    """The classes as races, or exhaustive scoring, place them: columns, int64 [images, classes].

    scores: float [images, trials, classes]. Who was scored longer stands before who dropped out,
    and then the better mean before the worse; of tied classes the lower column.
    """
    trials = (~np.isnan(scores)).sum(axis=1)
    totals = np.nansum(scores, axis=1, dtype=np.float64)
    return np.lexsort((-totals / np.maximum(trials, 1), -trials), axis=1)


def build_schedule(
    strategy: Strategy, measure: Callable[[], Noise], candidates: int, exchangeable: bool
) -> Schedule:
    """The schedule of a config section.

    measure: a pilot; called for racing whose section has no noise. exchangeable: are trials all
    drawn alike (orders), or not (timesteps)?

    Raises:
        GenclassError: noise is told of trials that are not exchangeable.
    """
    match strategy:
        case FixedStrategy():
            return Fixed(tuple(strategy.rounds), tuple(strategy.parts))
        case RacingStrategy():
            told = strategy.noise
            if told is None:
                return Racing(measure(), strategy.delta, strategy.first_trials)
            if not exchangeable:
                raise GenclassError(
                    "racing: `noise` can be told of trials that are all drawn alike only, and "
                    "these differ: take it out of the config, and a pilot measures it"
                )
            if told.degrees_of_freedom > _TOLD_FREEDOM and candidates >= _MANY_CLASSES:
                print(
                    f"warning: {told.degrees_of_freedom:g} degrees of freedom are told of the "
                    f"noise: with {candidates} classes, one image noisier than others may err in "
                    f"more than delta: tell {_TOLD_FREEDOM:g}, or let a pilot measure it",
                    flush=True,
                )
            noise = Noise(told.scale, told.degrees_of_freedom)
            return Racing(noise, strategy.delta, strategy.first_trials)
    return Exhaustive()


def _best(scores: np.ndarray, keep: int) -> np.ndarray:
    """The `keep` highest of [classes] scores, of tied ones those of lower columns: bool."""
    best = np.zeros(len(scores), dtype=bool)
    best[np.argsort(-scores, kind="stable")[:keep]] = True
    return best
