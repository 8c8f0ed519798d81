"""How much cheaper one classifier is than another one's full protocol, at the same accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genclass.analysis.contrasts import LEVEL
from genclass.analysis.intervals import clustered_mean

ALLOWANCE = 0.005  # of accuracy: what both may lack of the reference's full protocol

_RESAMPLES = 1000
_AT_ONCE = 50  # resamples whose weights are in memory together


@dataclass(frozen=True)
class Curve:
    """A classifier's accuracy against its budget.

    budgets: increasing, the last one its full protocol. shares: of each test set [images, budgets],
    the share of groups of so many trials that classify an image right, indexed by image id.
    """

    budgets: tuple[int, ...]
    shares: tuple[pd.DataFrame, ...]

    @property
    def accuracies(self) -> np.ndarray:
        """float64 [budgets], the mean over the test sets."""
        return np.mean([one.to_numpy(float).mean(axis=0) for one in self.shares], axis=0)


@dataclass(frozen=True)
class Factor:
    """How many times cheaper: the lower end of its 95 % interval is all of it that is known."""

    value: float  # 0: it is never as accurate
    low: float


@dataclass(frozen=True)
class Matched:
    """At which budgets a challenger is as accurate as a reference's full protocol.

    target: the reference's accuracy at its full protocol, minus the allowance.
    challenger_budget, reference_budget: the smallest from which on each stays at or above it; None:
    from none.
    ahead: the challenger's smallest budget is more accurate than the reference at every budget.
    behind: at every budget of the challenger it is less accurate than the target.
    """

    challenger: Curve
    reference: Curve
    target: float
    ahead: bool
    behind: bool
    _places: np.ndarray  # int [1 + resamples, 2], of both smallest budgets; -1: none

    @property
    def challenger_budget(self) -> int | None:
        place = int(self._places[0, 0])
        return self.challenger.budgets[place] if place >= 0 else None

    @property
    def reference_budget(self) -> int:
        return self.reference.budgets[int(self._places[0, 1])]

    def protocol(self, challenger: Sequence[float], reference: Sequence[float]) -> Factor:
        """What the reference's full protocol costs over what the challenger needs.

        Args:
            challenger, reference: the cost of an image at each budget of their curves.
        """
        return self._factor(challenger, np.full(len(self._places), reference[-1]))

    def cheapest(self, challenger: Sequence[float], reference: Sequence[float]) -> Factor:
        """The same over what the reference itself needs, at its cheapest."""
        return self._factor(challenger, np.asarray(reference)[self._places[:, 1]])

    def at_least(self, challenger: Sequence[float], reference: Sequence[float]) -> float:
        """Of a challenger that is ahead: the reference's full protocol over its smallest budget."""
        return reference[-1] / challenger[0]

    def _factor(self, challenger: Sequence[float], reference: np.ndarray) -> Factor:
        places = self._places[:, 0]
        factors = np.where(places >= 0, reference / np.asarray(challenger)[places], 0.0)
        low = np.quantile(factors[1:], LEVEL, method="inverted_cdf")
        return Factor(float(factors[0]), float(min(low, factors[0])))


def match(challenger: Curve, reference: Curve, seed: int = 0) -> Matched:
    """Read off two curves, on the same images, what is as accurate as the full protocol.

    A lower end is the 2.5 % quantile of a percentile bootstrap (B. Efron, Bootstrap methods:
    another look at the jackknife, Ann. Stat. 1979; 1,000 resamples) over image ids, the same for
    both curves and all test sets; each resample finds its own target and budgets. No interpolation
    between budgets. An upper end of such factors does not cover, and is not given.

    `ahead` and `behind` hold where every one of their differences is significant, one-sided at
    2.5 %: an intersection-union test (R. L. Berger, Multiparameter hypothesis testing and
    acceptance sampling, Technometrics 1982).
    """
    curves = _resampled(challenger, reference, seed)
    size = len(challenger.budgets)
    targets = curves[:, -1] - ALLOWANCE
    places = np.stack(
        [_stays(curves[:, :size], targets), _stays(curves[:, size:], targets)], axis=1
    )
    ids = np.concatenate([one.index.to_numpy() for one in challenger.shares])
    clusters = pd.factorize(ids)[0]
    one, other = (
        [frame.to_numpy(float) for frame in curve.shares] for curve in (challenger, reference)
    )

    def surely_above(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
        differences = [a - b for a, b in zip(first, second, strict=True)]
        return clustered_mean(differences, clusters).estimate.low > 0

    ahead = all(
        surely_above([frame[:, 0] for frame in one], [frame[:, place] for frame in other])
        for place in reversed(range(len(reference.budgets)))
    )
    full = [frame[:, -1] - ALLOWANCE for frame in other]
    behind = all(
        surely_above(full, [frame[:, place] for frame in one]) for place in reversed(range(size))
    )
    return Matched(challenger, reference, float(targets[0]), ahead, behind, places)


def _stays(curves: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """int [curves], the first place from which on a curve is at or above its target; -1: none."""
    reached = curves >= targets[:, None] - 1e-12
    kept = np.flip(np.logical_and.accumulate(np.flip(reached, axis=1), axis=1), axis=1)
    return np.where(kept.any(axis=1), kept.argmax(axis=1), -1)


def _resampled(challenger: Curve, reference: Curve, seed: int) -> np.ndarray:
    """Both curves side by side [1 + resamples, budgets of both]; the first row as measured."""
    sets = [
        np.concatenate([one.to_numpy(float), other.to_numpy(float)], axis=1)
        for one, other in zip(challenger.shares, reference.shares, strict=True)
    ]
    ids = [one.index for one in challenger.shares]
    everyone = pd.Index(np.unique(np.concatenate([one.to_numpy() for one in ids])))
    places = [everyone.get_indexer(one) for one in ids]
    random = np.random.default_rng(seed)
    uniform = np.full(len(everyone), 1 / len(everyone))
    rows = [np.mean([one.mean(axis=0) for one in sets], axis=0)[None]]
    for _ in range(_RESAMPLES // _AT_ONCE):
        weights = random.multinomial(len(everyone), uniform, size=_AT_ONCE)
        means = []
        for one, place in zip(sets, places, strict=True):
            chosen = weights[:, place].astype(float)
            means.append(chosen @ one / np.maximum(1, chosen.sum(axis=1, keepdims=True)))
        rows.append(np.mean(means, axis=0))
    return np.concatenate(rows)
