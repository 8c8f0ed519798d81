"""How much cheaper one classifier is where it is as accurate as another's best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genclass.analysis.intervals import CONFIDENCE, Estimate

_RESAMPLES = 1000
_AT_ONCE = 50  # resamples whose weights are in memory together


@dataclass(frozen=True)
class MatchedAccuracy:
    """The budgets at which two classifiers are equally accurate.

    factor: trials of the reference over trials of the candidate, with its 95 % interval. Times the
    ratio of what their trials cost it is the efficiency factor in any unit. 0 where the candidate
    is never as accurate (its cost would be infinite).
    accuracy: the reference's best, over its budgets; reference_budget: the smallest that gives it.
    candidate_budget: the smallest at which the candidate is as accurate; None: at none.
    """

    factor: Estimate
    accuracy: float
    reference_budget: int
    candidate_budget: int | None


def matched_accuracy(
    candidate: np.ndarray,
    candidate_budgets: Sequence[int],
    reference: np.ndarray,
    reference_budgets: Sequence[int],
    seed: int = 0,
) -> MatchedAccuracy:
    """Read the factor off two curves of accuracy against budget.

    The interval is a percentile bootstrap (B. Efron, 1979; 1,000 resamples) over the images, the
    same resample for both curves; each one finds its own best accuracy and its own budgets. No
    interpolation between budgets.

    Args:
        candidate, reference: float [images, budgets], the share of groups of that many trials that
            classify the image right; the same images in the same order.
        candidate_budgets, reference_budgets: increasing.
    """
    images = len(candidate)
    steps, reference_steps = np.asarray(candidate_budgets), np.asarray(reference_budgets)

    def read_off(curve: np.ndarray, reference_curve: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of curves [resamples, budgets]: factor, index of the reference, of the candidate."""
        best = reference_curve.argmax(axis=1)
        reached = curve >= reference_curve.max(axis=1, keepdims=True) - 1e-12
        first = reached.argmax(axis=1)
        factor = np.where(reached.any(axis=1), reference_steps[best] / steps[first], 0.0)
        return factor, best, first

    means = candidate.mean(axis=0)[None], reference.mean(axis=0)[None]
    factor, best, first = (values[0] for values in read_off(*means))
    random = np.random.default_rng(seed)
    uniform = np.full(images, 1 / images)
    resampled: list[np.ndarray] = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        weights = random.multinomial(images, uniform, size=_AT_ONCE) / images
        resampled.append(read_off(weights @ candidate, weights @ reference)[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(resampled), [tail, 1 - tail], method="inverted_cdf")
    return MatchedAccuracy(
        Estimate(float(factor), float(low), float(high)),
        float(means[1].max()),
        int(reference_steps[best]),
        int(steps[first]) if factor > 0 else None,
    )


def scaled(factor: Estimate, ratio: float) -> Estimate:
    """A factor in trials as a factor in what a trial costs `ratio` times as much of."""
    return Estimate(factor.value * ratio, factor.low * ratio, factor.high * ratio)
