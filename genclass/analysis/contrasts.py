"""Paired contrasts: how much more often one classifier is right than another, on the same images.

The contrast of a claim is the mean over its test sets of the mean over their images of (share of
the first's answers that are right) - (share of the second's), fixed before anything is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from genclass.analysis.intervals import Estimate, mcnemar, mean_over_sets, tango, tango_score

# The error that a verdict at completion may have; as much is spent on looks before it.
LEVEL = 0.025
_Z_LEVEL = float(stats.norm.isf(LEVEL / 2))
_POWER = 0.8  # what "would decide it" means
_Z_POWER = float(stats.norm.ppf(_POWER))

_FLIPS = 20_000
_EXACT = 200_000  # outcomes of the flips that are enumerated rather than drawn

Test = Literal["exact McNemar test", "sign-flip test", "Tango’s score test"]


@dataclass(frozen=True)
class Contrast:
    """Accuracy of the first minus accuracy of the second on the same images.

    difference: 0 is "no difference"; its interval is Tango's for one test set of right and wrong,
    else Student's t over images clustered by their ids.
    p_value: two-sided, that the difference is -`margin`.
    error: standard error of the difference over the choice of images.
    only_first, only_second: images that one of them alone classifies right; None but for one test
    set of right and wrong.
    """

    difference: Estimate
    p_value: float
    test: Test
    error: float
    images: int  # in all test sets
    sets: int
    margin: float = 0.0
    only_first: int | None = None
    only_second: int | None = None

    @property
    def distance(self) -> float:
        """How far the difference is on the claim's side of -margin."""
        return self.difference.value + self.margin


def contrast(sets: Sequence[pd.Series], margin: float = 0.0) -> Contrast:
    """Compare two classifiers on one or several test sets.

    One test set of right and wrong (differences of -1, 0, 1): McNemar's exact test, and Tango's
    interval; with a margin, Tango's score test. Else a sign-flip test over clusters of images of
    one id: a cluster's contribution is as likely with the other sign where neither classifier is
    better (R. A. Fisher, The design of experiments, 1935, 21; E. J. G. Pitman, Significance tests
    which may be applied to samples from any populations, 1937). The interval must agree with it.

    Args:
        sets: of each test set the difference of every image, in [-1, 1], indexed by image id.
        margin: the null hypothesis is a difference of -margin: 0.03 asks whether the first is not
            3 points worse, -0.01 whether it is more than one point better.
    """
    images = sum(len(differences) for differences in sets)
    mean = mean_over_sets(sets)
    if len(sets) == 1 and is_right_or_wrong(sets[0]):
        values = sets[0].to_numpy()
        first, second = int((values > 0).sum()), int((values < 0).sum())
        test: Test = "Tango’s score test" if margin else "exact McNemar test"
        p_value = (
            2 * float(stats.norm.sf(abs(tango_score(first, second, images, -margin))))
            if margin
            else mcnemar(first, second)
        )
        estimate = tango(first, second, images)
        return Contrast(estimate, p_value, test, mean.error, images, 1, margin, first, second)
    parts = [(one + margin) / (len(one) * len(sets)) for one in sets]
    ids = pd.factorize(np.concatenate([one.index.to_numpy() for one in sets]))[0]
    p_value = sign_flip(np.bincount(ids, np.concatenate([one.to_numpy(float) for one in parts])))
    return Contrast(mean.estimate, p_value, "sign-flip test", mean.error, images, len(sets), margin)


def is_right_or_wrong(differences: pd.Series) -> bool:
    """Is every difference -1, 0 or 1: did each side answer once?"""
    return bool(differences.isin((-1, 0, 1)).all())


def sign_flip(contributions: np.ndarray, seed: int = 0) -> float:
    """The two-sided p-value that contributions are as likely with the other sign.

    Exact where few outcomes are possible (contributions of equal size are counted together), else
    from 20,000 random flips, the observed one among them.

    Args:
        contributions: float [clusters]; the statistic is the absolute value of their sum.
    """
    sizes = np.abs(contributions)
    if not sizes.any():
        return 1.0
    scale = sizes.max()
    # What is equal but for rounding counts as equal.
    observed = (abs(float(contributions.sum())) - 1e-10 * float(sizes.sum())) / scale
    weights, counts = np.unique(np.round(sizes / scale, 12), return_counts=True)
    weights, counts = weights[weights > 0], counts[weights > 0]
    if float(np.log1p(counts).sum()) <= math.log(_EXACT):
        sums, chances = np.zeros(1), np.ones(1)
        for weight, count in zip(weights, counts, strict=True):
            positive = np.arange(count + 1)
            sums = np.add.outer(sums, weight * (2 * positive - count)).ravel()
            chances = np.outer(chances, stats.binom.pmf(positive, count, 0.5)).ravel()
        return min(1.0, float(chances[np.abs(sums) >= observed].sum()))
    random = np.random.default_rng(seed)
    sums = np.zeros(_FLIPS - 1)
    for weight, count in zip(weights, counts, strict=True):
        sums += weight * (2 * random.binomial(count, 0.5, size=len(sums)) - count)
    return float(1 + (np.abs(sums) >= observed).sum()) / _FLIPS


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several: all that are true nulls stay above the level together.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Power:
    """What some images can tell about a true difference.

    power: the chance that these many decide for it; images_needed: how many decide with a chance
    of 80 %, the test sets growing alike; None where no number does (the difference is not on the
    claim's side) or none can be told (not one image was answered differently).
    detectable: the difference that these many decide with a chance of 80 %.
    """

    difference: float
    power: float | None
    images_needed: int | None
    detectable: float | None


def power(found: Contrast, difference: float, images: int | None = None) -> Power:
    """The power of a verdict if `difference` were true, with the discordance that was found.

    Of one test set of right and wrong by summing over what McNemar's exact test would say, else by
    the normal approximation.

    Args:
        difference: the paper's, positive in the claim's direction.
        images: of how many; those of the contrast where None.
    """
    size = images or found.images
    if not found.error or not math.isfinite(found.error):
        return Power(difference, None, None, None)
    unit = found.error * math.sqrt(found.images)  # deviation of one image's share in the contrast
    detectable = (_Z_LEVEL + _Z_POWER) * unit / math.sqrt(size) - found.margin
    distance = difference + found.margin
    if found.test == "exact McNemar test" and found.only_first is not None:
        assert found.only_second is not None
        discordant = max(abs(distance), (found.only_first + found.only_second) / found.images)
        chance: Callable[[int], float] = lambda n: mcnemar_power(n, discordant, distance)  # noqa: E731
    else:
        chance = lambda n: float(stats.norm.cdf(distance * math.sqrt(n) / unit - _Z_LEVEL))  # noqa: E731
    if distance <= 0:
        return Power(difference, chance(size), None, detectable)
    about = math.ceil(((_Z_LEVEL + _Z_POWER) * unit / distance) ** 2)
    low, high = 1, 2 * about + 50
    while high - low > 1:  # the first number from which on, but for ripples, it is enough
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= _POWER else (middle, high)
    return Power(difference, chance(size), high, detectable)


def mcnemar_power(images: int, discordant: float, difference: float) -> float:
    """The chance that McNemar's exact test decides for the first classifier.

    Args:
        images: how many both classify.
        discordant: the share of images that only one of them classifies right.
        difference: the true one, at most `discordant`.
    """
    spread = 8 * math.sqrt(images * discordant * (1 - discordant)) + 8
    middle = images * discordant
    numbers = np.arange(max(0, int(middle - spread)), min(images, int(middle + spread) + 1) + 1)
    chances = stats.binom.pmf(numbers, images, discordant)
    needed = stats.binom.isf(LEVEL / 2, numbers, 0.5) + 1  # the fewest for, to be significant
    first = (1 + difference / discordant) / 2
    return float((chances * stats.binom.sf(needed - 1, numbers, first)).sum())
