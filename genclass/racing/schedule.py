"""Racing: which classes of an image go on, given what its trials have shown so far.

All classes of an image see the same trials, so the difference of two classes' scores is paired
and far less noisy than the scores. A schedule looks at the running scores of one image every few
trials and says which classes are scored again. Those that are left share all their trials, and
the best mean among them is the answer. docs/racing.md derives the bound and says when it fails.

The scores of a race are float [trials, classes], NaN from the trial on where a class had dropped
out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import polygamma, psi, stdtrit

from genclass.config import FixedStrategy, RacingStrategy, Strategy
from genclass.errors import GenclassError

_GROWTH = 1.25  # of the trials from one look to the next
_CLOSE = 4  # runners-up of an image that noise is measured on
_SMALLEST_SHARE = 0.05  # of the mean: below, what a trial contributes is not told from nothing
_FREEDOM_RANGE = (1.0, 100.0)

# A pilot measures the noise where the config gives none: all candidates in the first trial of a
# few images, and the best of them in some more trials.
PILOT_IMAGES = 6
PILOT_CLASSES = 5
_PILOT_TRIALS = 8
_PILOT_FREEDOM = 8.0  # at most: few pairs do not show how much pairs differ


class Schedule(Protocol):
    """When to look at an image's scores, and who goes on."""

    @property
    def tokens(self) -> int | None:
        """The first look is at so many tokens of the first order alone; None: at whole trials."""

    def admitted(self, scores: np.ndarray, budget: int) -> np.ndarray:
        """Of all candidates, those that go on after that: bool [classes]. scores: [classes]."""

    def looks(self, budget: int) -> list[int]:
        """After how many trials to look: ascending, each at least 1 and below the budget.

        All candidates are scored up to the first look, the survivors from look to look, and those
        of the last look up to the budget.
        """

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        """Of the classes alive, those that go on: bool [classes], at least one.

        scores: [trials so far, classes], as many trials as one of the looks has; alive are those
        with a score in the last. Depends on nothing but these scores, so on no other image.
        """


@dataclass(frozen=True)
class Exhaustive:
    """Every class in every trial."""

    tokens: None = None

    def admitted(self, scores: np.ndarray, budget: int) -> np.ndarray:
        return np.ones(len(scores), dtype=bool)

    def looks(self, budget: int) -> list[int]:
        return []

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        return alive(scores)


@dataclass(frozen=True)
class Fixed:
    """After so many trials, keep so many classes, whatever the scores: (trials, keep), in order.

    The pruning of Diffusion Classifier (Li et al. 2023). ((k, 1),) is exhaustive scoring with a
    budget of k.
    """

    rounds: tuple[tuple[int, int], ...]
    first_tokens: tuple[int, int] | None = None  # (tokens, keep), as A-VARC+ does with scales

    def __post_init__(self) -> None:
        trials, keep = ([r[i] for r in self.rounds] for i in (0, 1))
        ordered = trials == sorted(set(trials)) and keep == sorted(set(keep), reverse=True)
        if not self.rounds or not ordered or min(trials + keep) < 1:
            raise GenclassError(
                f"racing: rounds {[list(r) for r in self.rounds]}: each [trials, keep] needs more "
                f"trials and fewer classes than the one before it, both at least 1"
            )

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
    def tokens(self) -> int | None:
        return self.first_tokens[0] if self.first_tokens else None

    def admitted(self, scores: np.ndarray, budget: int) -> np.ndarray:
        assert self.first_tokens
        return _best(scores, self.first_tokens[1])

    def looks(self, budget: int) -> list[int]:
        return [trials for trials, _ in self.rounds if trials < budget]

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        total = np.where(alive(scores), scores.sum(axis=0, dtype=np.float64), -np.inf)
        return alive(scores) & _best(total, dict(self.rounds)[len(scores)])


@dataclass(frozen=True)
class Noise:
    """How far one trial's difference between two close classes lies from their mean difference.

    scale: its standard deviation, in units of the scores. freedom: how well pairs of classes keep
    to it: the variance of a pair is scale^2 x freedom / chi^2(freedom). shares: what each trial of
    the budget contributes to a difference, up to a factor; None: all the same, as orders do.
    first_tokens: the same of the first tokens of one order alone; None: not known.
    """

    scale: float
    freedom: float
    shares: tuple[float, ...] | None = None
    first_tokens: Noise | None = None

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.freedom > 0):
            raise GenclassError(
                f"racing: the noise's scale and freedom must be above 0, but are {self.scale} "
                f"and {self.freedom}: `genclass race-replay` measures them"
            )
        if self.shares is not None and not min(self.shares, default=0) > 0:
            raise GenclassError("racing: every share of the noise must be above 0")

    def times(self, budget: int) -> np.ndarray:
        """The operational time that each trial takes: float64 [budget], adding up to the budget.

        Raises:
            GenclassError: the shares are those of another budget.
        """
        shares = np.array(self.shares or (1.0,) * budget)
        if len(shares) != budget:
            raise GenclassError(
                f"racing: the noise has shares of {len(shares)} trials, but the budget is {budget}"
            )
        result: np.ndarray = shares * (budget / shares.sum())
        return result


@dataclass(frozen=True)
class Racing:
    """Drop a class once its deficit to the leader is significant.

    For every image, the class that the whole budget would choose is dropped with a probability of
    `delta` at most, over all looks and all classes, if differences are as `noise` says.
    """

    noise: Noise
    delta: float = 0.1
    first_trials: int = 1  # all who are admitted are given these
    tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1 or self.first_trials < 1:
            raise GenclassError(
                f"racing: delta {self.delta} must lie between 0 and 1, and first_trials "
                f"{self.first_trials} be at least 1"
            )

    def looks(self, budget: int) -> list[int]:
        """Every trial at first, then fewer: each look costs error, each delay costs trials."""
        looks, trials = [], self.first_trials
        while trials < budget:
            looks.append(trials)
            trials = max(trials + 1, math.ceil(_GROWTH * trials))
        return looks

    def admitted(self, scores: np.ndarray, budget: int) -> np.ndarray:
        assert self.noise.first_tokens
        quantile = -stdtrit(self.noise.first_tokens.freedom, self._level(len(scores), budget))
        result: np.ndarray = scores.max() - scores <= quantile * self.noise.first_tokens.scale
        return result

    def survivors(self, scores: np.ndarray, budget: int) -> np.ndarray:
        going = alive(scores)
        running = scores[:, going].astype(np.float64)
        deficits = running[:, [running.sum(axis=0).argmax()]] - running  # [trials, alive]
        level = self._level(scores.shape[1], budget)
        going[going] = ~significant(deficits, self.noise, budget, level)
        return going

    def _level(self, classes: int, budget: int) -> float:
        """Of one comparison at one look."""
        looks = len(self.looks(budget)) + (self.tokens is not None)
        return self.delta / (max(classes - 1, 1) * looks)


def significant(deficits: np.ndarray, noise: Noise, budget: int, level: float) -> np.ndarray:
    """Whether deficits seen in the first trials will still be deficits after the whole budget.

    deficits: float64 [trials, pairs], fewer trials than the budget -> bool [pairs]. A pair whose
    deficit over the budget will not be positive is called significant with probability `level` at
    most: its running sum is then a Brownian bridge (or lies below one), of variance
    v (budget - v) / budget at operational time v, and over an estimate of its scale Student's t.
    """
    times = noise.times(budget)[: len(deficits), None]
    time, total = float(times.sum()), deficits.sum(axis=0)
    spread = np.maximum((deficits**2 / times).sum(axis=0) - total**2 / time, 0)
    freedom = noise.freedom + len(deficits) - 1
    variance = (noise.freedom * noise.scale**2 + spread) / freedom
    quantile = -stdtrit(freedom, level)
    result: np.ndarray = total > quantile * np.sqrt(variance * time * (1 - time / budget))
    return result


def alive(scores: np.ndarray) -> np.ndarray:
    """The classes that were scored in the last trial: bool [classes]."""
    result: np.ndarray = ~np.isnan(scores[-1])
    return result


def race_scores(scores: np.ndarray, schedule: Schedule) -> np.ndarray:
    """One image's exhaustive scores [trials, classes], NaN where a race would not have looked."""
    raced = np.full_like(scores, np.nan)
    budget, done = len(scores), 0
    going = np.ones(scores.shape[1], dtype=bool)
    for look in [*schedule.looks(budget), budget]:
        raced[done:look, going] = scores[done:look, going]
        done = look
        if done < budget:
            going = schedule.survivors(raced[:done], budget)
        if going.sum() == 1:
            break
    return raced


def _best(scores: np.ndarray, keep: int) -> np.ndarray:
    """The `keep` highest of [classes] scores, of tied ones those of lower columns: bool."""
    best = np.zeros(len(scores), dtype=bool)
    best[np.argsort(-scores, kind="stable")[:keep]] = True
    return best


def ranking(scores: np.ndarray) -> np.ndarray:
    """The classes as races, or exhaustive scoring, place them: columns, int64 [images, classes].

    scores: float [images, trials, classes]. Who was scored longer stands before who dropped out,
    and then the better mean before the worse; of tied classes the lower column.
    """
    trials = (~np.isnan(scores)).sum(axis=1)
    totals = np.nansum(scores, axis=1, dtype=np.float64)
    return np.lexsort((-totals / np.maximum(trials, 1), -trials), axis=1)


def pilot_places(images: int) -> list[int]:
    """Which images of a dataset a pilot scores: spread evenly, the same for every shard."""
    number = min(images, PILOT_IMAGES)
    return [(2 * place + 1) * images // (2 * number) for place in range(number)]


def pilot_trials(budget: int, steps: bool) -> int:
    """How many trials a pilot scores. steps: trials are timesteps; they differ, so all of them."""
    return budget if steps else max(3, min(budget, _PILOT_TRIALS))


def pilot_noise(
    scores: Sequence[np.ndarray], steps: bool, firsts: Sequence[np.ndarray] = ()
) -> Noise:
    """The noise that a pilot shows.

    scores: of each image float [trials, classes]; firsts: the same of the first tokens alone.
    """
    noise = measure_noise(scores, per_trial=steps)
    noise = replace(noise, freedom=min(noise.freedom, _PILOT_FREEDOM))
    if not firsts:
        return noise
    first = measure_first_tokens(scores, firsts)
    return replace(noise, first_tokens=replace(first, freedom=min(first.freedom, _PILOT_FREEDOM)))


def build_schedule(strategy: Strategy, measure: Callable[[], Noise]) -> Schedule:
    """The schedule of a config section.

    measure: a pilot; called for racing whose section has no noise.
    """
    match strategy:
        case RacingStrategy():
            told = strategy.noise
            if told is None:
                noise = measure()
            else:
                shares = tuple(told.shares) if told.shares else None
                first = told.first_tokens
                of_first = Noise(first.scale, first.freedom) if first else None
                noise = Noise(told.scale, told.freedom, shares, of_first)
            return Racing(noise, strategy.delta, strategy.first_trials, strategy.first_tokens)
        case FixedStrategy():
            return Fixed(tuple(strategy.rounds), strategy.first_tokens)
    return Exhaustive()


def measure_noise(scores: Sequence[np.ndarray], per_trial: bool = False) -> Noise:
    """The noise of paired differences in exhaustive scores.

    Measured on each image's best class against the few next to it: those that are hard to tell
    apart. Their variances are taken as scale^2 x freedom / chi^2(freedom), fitted by the moments
    of their logarithms (G. Smyth, Linear models and empirical Bayes methods, SAGMB 2004).

    scores: of each image float [trials, classes], the same number of trials in all; the number of
    classes may differ. per_trial: measure the share of each trial too, and raise the scale where
    running sums stray further than independent trials would: for timesteps, which differ and are
    correlated, not for orders, which do not and are not.

    Raises:
        GenclassError: fewer than 3 trials, or fewer than 3 pairs that differ.
    """
    close, profile = [], 0.0
    for image in scores:
        image = np.asarray(image, dtype=np.float64)
        ranked = np.argsort(-image.sum(axis=0), kind="stable")
        deficits = image[:, ranked[:1]] - image[:, ranked[1:]]
        close.append(deficits[:, :_CLOSE])
        profile = profile + deficits.mean(axis=1)
    pairs = np.concatenate(close, axis=1) if close else np.empty((0, 0))
    trials = len(pairs)
    pairs = pairs[:, np.ptp(pairs, axis=0) > 0] if trials else pairs
    if trials < 3 or pairs.shape[1] < 3:
        raise GenclassError(
            "noise cannot be measured on fewer than 3 trials, or where scores do not differ"
        )
    times = np.ones(trials)
    if per_trial:
        times = np.maximum(profile / np.mean(profile), _SMALLEST_SHARE)
        times *= trials / times.sum()
    total, time = pairs.sum(axis=0), np.cumsum(times)[:-1, None]
    variances = ((pairs**2 / times[:, None]).sum(axis=0) - total**2 / trials) / (trials - 1)
    scale, freedom = _fit(variances, trials - 1)
    if not per_trial:
        return Noise(scale, freedom)
    bridges = (pairs.cumsum(axis=0)[:-1] - time * total / trials) ** 2 / time / (1 - time / trials)
    straying = max(1.0, float(bridges.mean(axis=1).max() / variances.mean()))
    return Noise(scale * math.sqrt(straying), freedom, tuple((times / trials).tolist()))


def measure_first_tokens(scores: Sequence[np.ndarray], firsts: Sequence[np.ndarray]) -> Noise:
    """The noise of paired differences over the first tokens of an order alone.

    It is what they miss the mean difference of whole orders by, once that is scaled down to their
    part of it (by least squares over all pairs): for two classes that tie, all there is.

    scores: of each image float [trials, classes], of whole orders; firsts: of their first tokens.

    Raises:
        GenclassError: fewer than 3 trials, or fewer than 3 pairs that differ.
    """
    wholes, parts = [], []
    for image, first in zip(scores, firsts, strict=True):
        ranked = np.argsort(-np.asarray(image, dtype=np.float64).sum(axis=0), kind="stable")
        best, close = ranked[:1], ranked[1 : _CLOSE + 1]
        wholes.append((image[:, best] - image[:, close]).mean(axis=0, dtype=np.float64))
        parts.append(first[:, best].astype(np.float64) - first[:, close])
    whole, part = np.concatenate(wholes), np.concatenate(parts, axis=1)
    share = (part.mean(axis=0) * whole).sum() / (whole**2).sum()
    variances = ((part - share * whole) ** 2).mean(axis=0)
    variances = variances[variances > 0]
    if len(part) < 3 or len(variances) < 3:
        raise GenclassError(
            "noise cannot be measured on fewer than 3 trials, or where scores do not differ"
        )
    return Noise(*_fit(variances, len(part)))


def _fit(variances: np.ndarray, freedom: int) -> tuple[float, float]:
    """Scale and freedom of pairs whose variances were each estimated with `freedom` degrees."""
    logs = np.log(variances) - psi(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedom / 2)
    low, high = _FREEDOM_RANGE
    for _ in range(50):  # polygamma(1, .), the variance of a log chi-squared, falls
        middle = math.sqrt(low * high)
        low, high = (middle, high) if polygamma(1, middle / 2) > excess else (low, middle)
    return float(np.exp((logs.mean() + psi(low / 2) - np.log(low / 2)) / 2)), low
