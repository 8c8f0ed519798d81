"""How sure a number is: intervals of accuracies and of paired differences, and a paired test.

Everywhere 95 %, two-sided, over the choice of images. Accuracies that are means over groups of
trials have no whole number of successes; the formulas take any proportion, and an interval is then
that of one group, which is a little wider than needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

CONFIDENCE = 0.95
_Z = float(norm.ppf(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(proportion: float, images: int) -> Estimate:
    """Wilson's score interval of a proportion of `images` images.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    scipy's `binomtest(...).proportion_ci(method="wilson")` is the same for whole numbers.
    """
    shrink = 1 / (1 + _Z**2 / images)
    centre = (proportion + _Z**2 / (2 * images)) * shrink
    half = _Z * shrink * math.sqrt(proportion * (1 - proportion) / images + (_Z / images) ** 2 / 4)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(proportion, min(low, proportion), max(high, proportion))


@dataclass(frozen=True)
class SetMean:
    """A mean over test sets, and the p-value of a z-test that it is 0."""

    estimate: Estimate
    p_value: float


def mean_over_sets(sets: Sequence[pd.Series]) -> SetMean:
    """The mean over test sets of each set's mean over its images.

    Sets may hold the same images (in other conditions): what belongs to one image id is one
    cluster, and the variance is that of the sum of independent clusters (K.-Y. Liang and S. Zeger,
    Longitudinal data analysis using generalized linear models, Biometrika 1986). Normal interval.

    Args:
        sets: for each test set a number for every image, indexed by image id.
    """
    value = sum(float(images.mean()) for images in sets) / len(sets)
    parts = [(images - images.mean()) / (len(images) * len(sets)) for images in sets]
    clusters = pd.concat(parts).groupby(level=0).sum()
    error = math.sqrt(float((clusters**2).sum()))
    estimate = Estimate(value, value - _Z * error, value + _Z * error)
    p_value = 2 * float(norm.sf(abs(value) / error)) if error else float(value == 0)
    return SetMean(estimate, p_value)


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy a minus accuracy b on the same images, with 95 % interval and exact McNemar p.

    only_a, only_b: images that only one of them classifies right, in the first group of trials.
    """

    difference: Estimate
    p_value: float
    only_a: int
    only_b: int
    images: int


def paired_difference(
    share_a: np.ndarray, share_b: np.ndarray, right_a: np.ndarray, right_b: np.ndarray
) -> PairedDifference:
    """Compare two classifiers on the same images.

    The interval is Tango's score interval, which excludes 0 where McNemar's (asymptotic) test does
    and stays sensible with few or no discordant images; it is computed from the numbers of
    discordant images averaged over the groups of trials. The test is McNemar's, exact (two-sided
    binomial on the discordant images), on the first group of each.

    Args:
        share_a, share_b: float [images], the share of groups that classify the image right.
        right_a, right_b: bool [images], whether the first group does.
    """
    just_a = float((share_a * (1 - share_b)).sum())
    just_b = float(((1 - share_a) * share_b).sum())
    only_a = int((right_a & ~right_b).sum())
    only_b = int((~right_a & right_b).sum())
    return PairedDifference(
        tango(just_a, just_b, len(share_a)), mcnemar(only_a, only_b), only_a, only_b, len(share_a)
    )


def tango(only_a: float, only_b: float, images: int) -> Estimate:
    """The difference (only_a - only_b) / images of paired proportions, with its score interval.

    T. Tango, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Stat. Med. 1998.
    """

    def score(delta: float) -> float:
        """Standard normal if `delta` is the true difference; falls as delta grows."""
        b = (2 * images - only_a + only_b) * delta - only_a - only_b
        c = -only_b * delta * (1 - delta)
        root = math.sqrt(max(0.0, b**2 - 8 * images * c))
        only_b_share = (root - b) / (4 * images)  # its likeliest value, given delta
        variance = images * (2 * only_b_share + delta * (1 - delta))
        return (only_a - only_b - images * delta) / math.sqrt(max(variance, 1e-300))

    value = (only_a - only_b) / images
    low = brentq(lambda d: score(d) - _Z, -1.0, value) if score(-1.0) > _Z else -1.0
    high = brentq(lambda d: score(d) + _Z, value, 1.0) if score(1.0) < -_Z else 1.0
    return Estimate(value, float(low), float(high))


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value that neither of two classifiers is better."""
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
