"""How sure an accuracy or a difference of accuracies is, and an exact paired test.

Everywhere 95 %, two-sided, over the choice of images. docs/statistics.md says what is used where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

CONFIDENCE = 0.95
_Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(proportion: float, images: int) -> Estimate:
    """Wilson's score interval of a proportion of `images` images.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    A mean over groups of trials has no whole number of successes: the formula takes any proportion,
    and the interval is then that of one group, a little wider than needed.
    """
    shrink = 1 / (1 + _Z**2 / images)
    centre = (proportion + _Z**2 / (2 * images)) * shrink
    half = _Z * shrink * math.sqrt(proportion * (1 - proportion) / images + (_Z / images) ** 2 / 4)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(proportion, min(low, proportion), max(high, proportion))


@dataclass(frozen=True)
class ClusteredMean:
    """A mean over test sets, each of which is a mean over its images.

    error: its standard error; degrees_of_freedom: of the t distribution of (value - truth) / error.
    """

    value: float
    error: float
    degrees_of_freedom: int

    @property
    def estimate(self) -> Estimate:
        """The value with its 95 % interval, of Student's t; -1 to 1 where nothing is known."""
        if not math.isfinite(self.error):
            return Estimate(self.value, -1.0, 1.0)
        t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, self.degrees_of_freedom))
        return Estimate(self.value, self.value - t * self.error, self.value + t * self.error)


def mean_over_sets(sets: Sequence[pd.Series]) -> ClusteredMean:
    """The mean over test sets of each set's mean over its images.

    Sets may hold the same images (in other conditions): what belongs to one image id is one
    cluster, and the variance is that of the sum of independent clusters (K.-Y. Liang and S. Zeger,
    Longitudinal data analysis using generalized linear models, Biometrika 1986), with n - 1 in
    place of n in every set.

    Args:
        sets: for each test set a number for every image, indexed by image id; none is empty.
    """
    clusters = pd.factorize(np.concatenate([images.index.to_numpy() for images in sets]))[0]
    return clustered_mean([images.to_numpy(float) for images in sets], clusters)


def clustered_mean(sets: Sequence[np.ndarray], clusters: np.ndarray) -> ClusteredMean:
    """What `mean_over_sets` says, of plain numbers.

    Args:
        sets: [images] of each test set. clusters: int [images of all], from 0 on, in their order.
    """
    value = sum(float(images.mean()) for images in sets) / len(sets)
    if any(len(images) < 2 for images in sets):  # of one image nothing is known
        return ClusteredMean(value, math.inf, 1)
    residuals = np.concatenate(
        [
            (images - images.mean()) / (math.sqrt(len(images) * (len(images) - 1)) * len(sets))
            for images in sets
        ]
    )
    sums = np.bincount(clusters, residuals)
    return ClusteredMean(value, math.sqrt(float(sums @ sums)), max(1, len(sums) - len(sets)))


def tango(only_first: float, only_second: float, images: int) -> Estimate:
    """The difference (only_first - only_second) / images of paired proportions, with its score
    interval.

    T. Tango, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Stat. Med. 1998.
    """

    def score(delta: float) -> float:
        return tango_score(only_first, only_second, images, delta)

    value = (only_first - only_second) / images
    low = brentq(lambda d: score(d) - _Z, -1.0, value) if score(-1.0) > _Z else -1.0
    high = brentq(lambda d: score(d) + _Z, value, 1.0) if score(1.0) < -_Z else 1.0
    return Estimate(value, float(low), float(high))


def tango_score(only_first: float, only_second: float, images: int, delta: float) -> float:
    """Standard normal if `delta` is the true difference; falls as delta grows (Tango 1998)."""
    b = (2 * images - only_first + only_second) * delta - only_first - only_second
    c = -only_second * delta * (1 - delta)
    root = math.sqrt(max(0.0, b**2 - 8 * images * c))
    only_second_share = (root - b) / (4 * images)  # its likeliest value, given delta
    variance = images * (2 * only_second_share + delta * (1 - delta))
    return (only_first - only_second - images * delta) / math.sqrt(max(variance, 1e-300))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that neither of two classifiers is better.

    Q. McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, Psychometrika 1947; here the two-sided binomial test on the discordant images.
    """
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def trial_noise(shares: np.ndarray, groups: int) -> float:
    """The variance that the choice of trials gives to one run's accuracy on these images.

    Each of `groups` disjoint groups of exchangeable trials classified every image; an image of
    which the share p of groups is right has the unbiased variance p (1 - p) groups / (groups - 1)
    within it, and images are independent.

    Args:
        shares: float [images], the share of groups that classify the image right.
        groups: at least 2.
    """
    within = shares * (1 - shares) * groups / (groups - 1)
    return float(within.sum()) / len(shares) ** 2
