"""Top-1 accuracy for every budget and aggregation, from merged scores.

A budget of k trials divides the T trials of an evaluation into T // k disjoint groups of
consecutive ones; each group classifies every image, so there is one accuracy a group. All of it
is derived from the scores, nothing is evaluated again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genclass.errors import GenclassError

MEAN_LOG_P = "mean_log_p"
AGGREGATIONS = (MEAN_LOG_P, "mean_softmax", "logsumexp")
MEASURED = 2  # raised when `measure` says something else of the same scores: all is measured again

_BLOCK = 4_000_000  # scores held at once in float64 (32 MB, and a few times that in between)


class TrialGroups:
    """Some images' scores, and what groups of consecutive trials make of them.

    scores: float [images, trials, classes]. All sums are in float64. Sums of trials are
    differences of running sums: for float32 scores within a factor of 2^20 of each other, and
    up to 500 trials, all of them are exact, so equal scores tie whatever the grouping.
    """

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = np.asarray(scores, dtype=np.float64)

    @cached_property
    def _running(self) -> np.ndarray:
        """[images, trials + 1, classes]: the sum of the first 0, 1, ..., T trials."""
        images, trials, classes = self.scores.shape
        sums = np.zeros((images, trials + 1, classes))
        np.cumsum(self.scores, axis=1, out=sums[:, 1:])
        return sums

    @cached_property
    def _log_posteriors(self) -> np.ndarray:
        """[images, trials, classes]: log-softmax over the classes, trial by trial."""
        return self.scores - _logsumexp(self.scores, axis=2)[..., None]

    def aggregate(self, budget: int, aggregation: str) -> np.ndarray:
        """The score of every class in every group of `budget` trials; higher is better.

        mean_log_p: the mean of the scores. logsumexp: the log of the mean of their exponentials.
        mean_softmax: the log of the mean over trials of the softmax over classes.

        Returns:
            float64 [images, trials // budget, classes].
        """
        if aggregation == MEAN_LOG_P:
            ends = self._running[:, ::budget]
            return (ends[:, 1:] - ends[:, :-1]) / budget
        values = self.scores if aggregation == "logsumexp" else self._log_posteriors
        images, trials, classes = values.shape
        groups = trials // budget
        grouped = values[:, : groups * budget].reshape(images, groups, budget, classes)
        return _logsumexp(grouped, axis=2) - np.log(budget)


def in_blocks(scores: np.ndarray) -> Iterator[tuple[slice, TrialGroups]]:
    """The images of `scores` [images, trials, classes], as many at a time as memory likes."""
    images, trials, classes = scores.shape
    step = max(1, _BLOCK // (trials * classes))
    for start in range(0, images, step):
        block = slice(start, min(start + step, images))
        yield block, TrialGroups(scores[block])


@dataclass(frozen=True)
class Judged:
    """Some images at one budget by one aggregation.

    images: their range; aggregated: float64 [images, groups, classes]; right: bool [images,
    groups], of tied classes the lowest column counts.
    """

    images: slice
    budget: int
    aggregation: str
    aggregated: np.ndarray
    right: np.ndarray


def judge(
    scores: np.ndarray,
    class_ids: np.ndarray,
    labels: np.ndarray,
    aggregations: Sequence[str] = AGGREGATIONS,
) -> Iterator[Judged]:
    """Which groups of trials classify which images right: block by block, for every budget
    1..trials and every aggregation.

    A prediction is a class id, `class_ids[column]`.

    Args:
        scores: float32 [images, trials, classes], possibly a memory map; higher is better. For
            classifiers whose scores are no log-likelihoods (diffusion, flow) only the mean has a
            meaning: pass `aggregations=["mean_log_p"]`. The other two take time that grows with
            the square of the number of trials.
        class_ids: int64 [classes].
        labels: int64 [images], class ids.

    Raises:
        GenclassError: the scores hold NaN.
    """
    for block, groups in in_blocks(scores):
        check_complete(groups.scores)
        for budget in range(1, scores.shape[1] + 1):
            for aggregation in aggregations:
                aggregated = groups.aggregate(budget, aggregation)
                right = class_ids[aggregated.argmax(axis=2)] == labels[block, None]
                yield Judged(block, budget, aggregation, aggregated, right)


def check_complete(scores: np.ndarray) -> None:
    """Refuse what racing left out: a class without a score has no place in disjoint groups.

    Raises:
        GenclassError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise GenclassError(
            "scores of racing (NaN where a class was left out) cannot be measured per budget: "
            "evaluate without racing"
        )


def _logsumexp(values: np.ndarray, axis: int) -> np.ndarray:
    """log sum exp over `axis`, shifted by the largest so that nothing over- or underflows."""
    largest = values.max(axis=axis)
    shifted = np.exp(values - np.expand_dims(largest, axis))
    return largest + np.log(shifted.sum(axis=axis))
