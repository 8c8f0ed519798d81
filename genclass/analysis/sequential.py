"""Evidence that may be looked at whenever one likes, and that holds whenever one stops.

An e-process starts at 1 and is, if the null hypothesis is true, expected to be at most 1 at any
time; so it ever reaches 40 with a chance of at most 1 in 40 (J. Ville, Étude critique de la notion
de collectif, 1939; A. Ramdas, P. Grünwald, V. Vovk and G. Shafer, Game-theoretic statistics and
safe anytime-valid inference, Stat. Sci. 2023). Images come in a random order that was fixed before,
so that those that are there are a fair sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import betaln, logsumexp

from genclass.analysis.contrasts import is_right_or_wrong
from genclass.analysis.intervals import Estimate

ENOUGH = 40.0  # the evidence that decides: wrong with a chance of at most 2.5 %

_STAKES = np.geomspace(0.03, 0.9, 8)  # of a gambler's wealth, bet on every round

Side = Literal["first", "second"]


@dataclass(frozen=True)
class PairedSet:
    """How two classifiers differ on one test set, image by image.

    differences: the share of right answers of the first minus that of the second, in [-1, 1], of
    the images that are there, indexed by image id, in the order in which they are scored.
    to_come: the ids of the others, in that order; none: the test set is complete.
    """

    name: str
    differences: pd.Series
    to_come: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.to_come


@dataclass(frozen=True)
class Looks:
    """What a look after every round has found so far.

    evidence: the most that there was for the side that there is more for.
    decided: the side that it was enough for; None: for none. after: rounds, at the first such look.
    first_decided: the side of that first look; another one than `decided` if evidence turned.
    rounds: how many are complete.
    """

    evidence: float
    decided: Side | None
    first_decided: Side | None
    after: int | None
    rounds: int


def sign_evidence(differences: np.ndarray) -> np.ndarray:
    """Evidence against "of an image that only one of them classifies right, either is as likely".

    E = 2^n B(1 + s, 1 + f) after n discordant images, s for the first and f for the second: the
    likelihood ratio of all chances of s, weighted alike, to one half.

    Args:
        differences: [images] of -1, 0 and 1.

    Returns:
        float64 [images], the logarithm of E after each image.
    """
    first, second = np.cumsum(differences > 0), np.cumsum(differences < 0)
    return (first + second) * math.log(2) + betaln(1 + first, 1 + second)


def mean_evidence(values: np.ndarray, mean: float = 0.0) -> np.ndarray:
    """Evidence against "a value is expected to be at most `mean`".

    The wealth of eight gamblers together, each of whom stakes a fixed share of it in every round on
    a bet that pays (1 + value) / (1 + mean) times the stake (I. Waudby-Smith and A. Ramdas,
    Estimating means of bounded random variables by betting, JRSS-B 2024: diversified Kelly
    betting).

    Args:
        values: [rounds] in [-1, 1].
        mean: above -1.

    Returns:
        float64 [rounds], the logarithm of the wealth after each round; it falls as `mean` grows.
    """
    gains = (1 + values) / (1 + mean) - 1
    wealths = np.cumsum(np.log1p(_STAKES[:, None] * gains), axis=1)
    return logsumexp(wealths, axis=0) - math.log(len(_STAKES))


def confidence_sequence(values: np.ndarray, enough: float = ENOUGH) -> Estimate:
    """The mean of values in [-1, 1] with an interval that holds the truth at every look.

    It holds the means that neither of two bets, on more and on less, has decided against at any
    look so far; with the default both together do so wrongly with a chance of at most 5 %.
    """
    if not len(values):
        return Estimate(0.0, -1.0, 1.0)

    def bound(values: np.ndarray) -> float:
        def excess(mean: float) -> float:
            return float(mean_evidence(values, mean).max()) - math.log(enough)

        least = -1 + 1e-9
        return float(brentq(excess, least, 1.0, xtol=1e-5)) if excess(least) > 0 else -1.0

    value = float(values.mean())
    return Estimate(value, min(value, bound(values)), max(value, -bound(-values)))


def accuracy_so_far(shares: np.ndarray) -> Estimate:
    """An accuracy while images are still to come, with a confidence sequence.

    Args:
        shares: [images] in [0, 1], the share of right answers of each, in order.
    """
    return _as_shares(confidence_sequence(2 * shares - 1))


def mean_so_far(sets: Sequence[PairedSet]) -> Estimate:
    """The mean accuracy over test sets in the rounds that are there, with a confidence sequence.

    Args:
        sets: shares of right answers in [0, 1] in the place of differences.
    """
    return _as_shares(confidence_sequence(2 * rounds(sets) - 1))


def _as_shares(found: Estimate) -> Estimate:
    """From [-1, 1] to [0, 1]."""
    return Estimate((1 + found.value) / 2, (1 + found.low) / 2, (1 + found.high) / 2)


def look(sets: Sequence[PairedSet], margin: float = 0.0) -> Looks:
    """Look after every round whether it is decided that the difference is above -margin, or below.

    One test set of right and wrong without a margin: by `sign_evidence`, the side being that of
    more images. Else, of the mean over the test sets: by `mean_evidence` of `rounds`, for either
    side.
    """
    values = rounds(sets)
    if not len(values):
        return Looks(1.0, None, None, None, 0)
    if _by_signs(sets, margin):
        evidence, total = sign_evidence(values), np.cumsum(values)
        sides = [np.where(total > 0, evidence, 0.0), np.where(total < 0, evidence, 0.0)]
    else:
        sides = [mean_evidence(values, -margin), mean_evidence(-values, margin)]
    most = [float(side.max()) for side in sides]
    evidence_found = math.exp(min(700.0, max(most)))
    reached = [side >= math.log(ENOUGH) for side in sides]
    if not any(one.any() for one in reached):
        return Looks(evidence_found, None, None, None, len(values))
    names: tuple[Side, Side] = ("first", "second")
    looks = [int(one.argmax()) if one.any() else len(values) for one in reached]
    decided, first_decided = names[most[1] > most[0]], names[looks[1] < looks[0]]
    return Looks(evidence_found, decided, first_decided, min(looks) + 1, len(values))


def difference_so_far(sets: Sequence[PairedSet], margin: float = 0.0) -> Estimate:
    """The mean difference in the rounds that are there, with a confidence sequence.

    Where `look` decides by signs, half of the error goes to that and half to the sequence by
    betting, which is cut at 0 where signs decide and reaches 0 where they do not.
    """
    values = rounds(sets)
    if not _by_signs(sets, margin):
        return confidence_sequence(values)
    interval, decided = confidence_sequence(values, 2 * ENOUGH), look(sets, margin).decided
    low = max(interval.low, 0.0) if decided == "first" else min(interval.low, 0.0)
    high = min(interval.high, 0.0) if decided == "second" else max(interval.high, 0.0)
    return Estimate(interval.value, min(low, interval.value), max(high, interval.value))


def _by_signs(sets: Sequence[PairedSet], margin: float) -> bool:
    return len(sets) == 1 and not margin and is_right_or_wrong(sets[0].differences)


def rounds(sets: Sequence[PairedSet]) -> np.ndarray:
    """The mean difference over the test sets in round after round.

    A round is the next image of every test set; where test sets share images, the next ones that
    keep all of one id in one round. Which images are in a round is known before any is scored.

    Returns:
        float64 [rounds] in [-1, 1], of the leading rounds whose images are all there.

    Raises:
        ValueError: test sets that share images do not have them in the same order.
    """
    sums = [_units(family) for family in _families(sets)]
    number = min((len(one) for one in sums), default=0)
    return sum((one[:number] for one in sums), np.zeros(number)) / max(1, len(sets))


def _families(sets: Sequence[PairedSet]) -> list[list[PairedSet]]:
    """The test sets, those together that share an image."""
    if len(sets) == 1:
        return [[*sets]]
    families: list[tuple[set[str], list[PairedSet]]] = []
    for one in sets:
        ids, members = {*one.differences.index, *one.to_come}, [one]
        apart = []
        for others, family in families:
            if ids & others:
                ids |= others
                members = family + members
            else:
                apart.append((others, family))
        families = [*apart, (ids, members)]
    return [family for _, family in families]


def _units(family: list[PairedSet]) -> np.ndarray:
    """Of test sets that share images: the next images of each, and the sum of the sets' means.

    Returns:
        float64 [units], of the leading units that are all there.
    """
    if len(family) == 1:
        return family[0].differences.to_numpy(float)
    orders = [[*one.differences.index, *one.to_come] for one in family]
    values = [one.differences.to_numpy(float) for one in family]
    if all(order == orders[0] for order in orders):
        shortest = min(map(len, values))
        return np.sum([one[:shortest] for one in values], axis=0)
    places = [{image: place for place, image in enumerate(order)} for order in orders]
    heads = [0] * len(family)
    units: list[float] = []
    unit: list[list[float]] = [[] for _ in family]
    while all(head < len(order) for head, order in zip(heads, orders, strict=True)):
        image = _next(orders, places, heads)
        for number, place in enumerate(places):
            at = place.get(image)
            if at is None:
                continue
            heads[number] = at + 1
            if at >= len(values[number]):
                return np.array(units)
            unit[number].append(values[number][at])
        if all(unit):
            units.append(sum(sum(part) / len(part) for part in unit))
            unit = [[] for _ in family]
    return np.array(units)


def _next(orders: list[list[str]], places: list[dict[str, int]], heads: list[int]) -> str:
    """The first image of a test set that no other one has further back."""
    for order, head in zip(orders, heads, strict=True):
        image = order[head]
        if all(place.get(image, at) == at for place, at in zip(places, heads, strict=True)):
            return image
    raise ValueError("test sets that share images do not have them in the same order")
