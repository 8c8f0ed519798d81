"""Noise: how far a difference of two classes that was seen strays from what is not seen yet.

A pair's differences over the trials of the budget are taken as

    d = mu profile + s e,    e ~ Normal(0, covariance),    s^2 = scale^2 nu / chi^2(nu)

with a mean mu of its own, on which nothing is assumed. Orders are exchangeable: profile 1,
covariance the identity. Timesteps are not: some say more than others, and neighbours say much the
same. docs/racing.md derives the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from genclass.errors import GenclassError
from genclass.scores.noise_record import NoiseRecord

_CLOSE = 4  # runners-up of an image that noise is measured on
_SMALLEST_WEIGHT = 0.02  # of the mean: below, what a trial contributes is not told from nothing
_SMALLEST_OWN = 0.01  # of a trial's variance: what factors leave of it is not told from nothing
_SMALLEST_VARIANCE = 1e-5  # of the trials' mean
_FACTORS = (0, 1, 2, 3, 5, 8)
_FOLDS = 6
_ROUNDS = 3
_GROWTH = 1.25  # of the trials from one look to the next
_DEGREES_OF_FREEDOM = (1.0, 100.0)


@dataclass(frozen=True)
class Noise:
    """How far one trial's difference between two close classes lies from their mean difference.

    scale: its standard deviation, in units of the scores, as a root mean square over trials.
    degrees_of_freedom: how well pairs of classes keep to it: the variance of a pair is
    scale^2 nu / chi^2(nu). trial_weights: what each trial of the budget contributes to a mean
    difference, up to a factor; own: the part of its variance that no other trial shares; factors:
    what trials share, each a loading of every trial. All None or empty: trials are exchangeable.
    """

    scale: float
    degrees_of_freedom: float
    trial_weights: tuple[float, ...] | None = None
    own: tuple[float, ...] | None = None
    factors: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.degrees_of_freedom > 0):
            raise GenclassError(
                f"racing: the noise's scale and degrees of freedom must be above 0, but are "
                f"{self.scale} and {self.degrees_of_freedom}: `genclass race-replay` measures them"
            )
        shape = [numbers for numbers in (self.trial_weights, self.own) if numbers is not None]
        if any(min(numbers, default=0) <= 0 for numbers in shape):
            raise GenclassError("racing: trial weights and own variances must be above 0")
        if len({len(numbers) for numbers in (*shape, *self.factors)}) > 1 or len(shape) == 1:
            raise GenclassError("racing: the noise's weights and variances are of unequal budgets")

    def seen(self, budget: int, trials: int) -> Seen:
        """What the first trials of a budget say about all of it; 1 <= trials <= budget.

        Raises:
            GenclassError: the noise was measured for another budget.
        """
        if self.trial_weights is not None and len(self.trial_weights) != budget:
            raise GenclassError(
                f"racing: the noise is that of {len(self.trial_weights)} trials, but the budget "
                f"is {budget}"
            )
        if (known := self._known.get((budget, trials))) is None:
            known = _foresee(*self.moments(budget), trials)
            self._known[budget, trials] = known
        return known

    def moments(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """The profile, float64 [budget], and the covariance, float64 [budget, budget]."""
        if self.trial_weights is None or self.own is None:
            return np.ones(budget), np.eye(budget)
        shared = np.array(self.factors).reshape(-1, budget)
        return np.array(self.trial_weights), shared.T @ shared + np.diag(self.own)

    @classmethod
    def of(cls, record: NoiseRecord) -> Noise:
        return cls(
            record.scale,
            record.degrees_of_freedom,
            tuple(record.trial_weights) if record.trial_weights else None,
            tuple(record.own) if record.own else None,
            tuple(map(tuple, record.factors)),
        )

    @property
    def record(self) -> NoiseRecord:
        return NoiseRecord.model_validate(asdict(self))

    @cached_property
    def _known(self) -> dict[tuple[int, int], Seen]:
        return {}


@dataclass(frozen=True)
class Seen:
    """What the first n trials say about the sum of a pair's differences over the whole budget.

    It is the best linear prediction where the pair's mean is unknown: universal kriging (N.
    Cressie, Statistics for spatial data, 1993, section 3.4).

    weights: float64 [n], of the differences in the predicted sum. variance: of the prediction's
    error, a multiple of the pair's own. residuals: float64 [n, n]; what it makes of differences
    are as many independent ones, less the one that estimates their mean.
    """

    weights: np.ndarray
    variance: float
    residuals: np.ndarray


def _foresee(profile: np.ndarray, covariance: np.ndarray, n: int) -> Seen:
    """profile: float64 [budget]; covariance: float64 [budget, budget]; n: trials that are seen."""
    from scipy.linalg import solve_triangular

    inverse = solve_triangular(np.linalg.cholesky(covariance[:n, :n]), np.eye(n), lower=True)
    white = inverse @ profile[:n]
    information = white @ white
    shared = covariance[n:, :n].sum(axis=0) @ inverse.T
    unexplained = profile[n:].sum() - shared @ white
    weights = 1 + (shared + unexplained / information * white) @ inverse
    variance = covariance[n:, n:].sum() - shared @ shared + unexplained**2 / information
    residuals = inverse - np.outer(white / information, white @ inverse)
    return Seen(weights, max(float(variance), 0.0), residuals)


def significant(deficits: np.ndarray, noise: Noise, budget: int, level: float) -> np.ndarray:
    """Whether deficits seen in the first trials will still be deficits after the whole budget.

    deficits: float64 [trials, pairs], fewer trials than the budget -> bool [pairs]. A pair whose
    deficit over the budget will not be positive is called significant with probability `level` at
    most: its predicted sum over an estimate of that prediction's error is Student's t then, or
    lies below it. Where trials are exchangeable this is a Brownian bridge, of variance
    v (budget - v) / budget after v trials.
    """
    from scipy.special import stdtrit

    seen = noise.seen(budget, len(deficits))
    spread = ((seen.residuals @ deficits) ** 2).sum(axis=0)
    freedom = noise.degrees_of_freedom + len(deficits) - 1
    variance = (noise.degrees_of_freedom * noise.scale**2 + spread) / freedom
    quantile = -stdtrit(freedom, level)
    result: np.ndarray = seen.weights @ deficits > quantile * np.sqrt(variance * seen.variance)
    return result


def looks(budget: int, first: int = 1) -> list[int]:
    """After how many trials to look: every trial at first, then after each quarter more.

    Each look costs error, each delay costs trials.
    """
    result, trials = [], first
    while trials < budget:
        result.append(trials)
        trials = max(trials + 1, math.ceil(_GROWTH * trials))
    return result


def measure_noise(scores: Sequence[np.ndarray], exchangeable: bool = True) -> Noise:
    """The noise of paired differences in exhaustive scores.

    Measured on each image's best class against the few next to it: those that are hard to tell
    apart. Their variances are taken as scale^2 nu / chi^2(nu), fitted by the moments of their
    logarithms (G. Smyth, Linear models and empirical Bayes methods, SAGMB 2004). Where trials are
    not exchangeable, their weights and covariance are measured, too; as many factors are taken as
    predict other images best, and the scale is raised by what those lie further off than foreseen.

    scores: of each image float [trials, classes], the same number of trials in all; the number of
    classes may differ.

    Raises:
        GenclassError: fewer than 3 trials, or fewer than 3 pairs that differ.
    """
    close, profiles, owners = [], [], []
    for place, image in enumerate(scores):
        deficits = _deficits(image)
        profiles.append(deficits.mean(axis=1))
        close.append(deficits[:, :_CLOSE])
        owners += [place] * close[-1].shape[1]
    pairs = np.concatenate(close, axis=1) if close else np.empty((0, 0))
    differ = np.ptp(pairs, axis=0) > 0 if len(pairs) else np.zeros(0, dtype=bool)
    if len(pairs) < 3 or differ.sum() < 3:
        raise GenclassError(
            "noise cannot be measured on fewer than 3 trials, or where scores do not differ"
        )
    pairs, images = pairs[:, differ], np.array(owners)[differ]
    if exchangeable:
        return Noise(*_fit(pairs.var(axis=0, ddof=1), len(pairs) - 1))
    return _measure_shape(pairs, images, np.stack(profiles))


def kurtosis(scores: Sequence[np.ndarray], noise: Noise) -> float:
    """Of the differences that `measure_noise` looks at: 3 where they are normal.

    Of each pair about its own mean and by its own variance, then averaged; free of the bias that
    few trials have. Heavier tails than normal ones make a race err more often than it promises.
    """
    pairs = np.concatenate([_deficits(image)[:, :_CLOSE] for image in scores], axis=1)
    trials = len(pairs)
    values = noise.seen(trials, trials).residuals @ pairs[:, np.ptp(pairs, axis=0) > 0]
    ratios = (values**4).mean(axis=0) / (values**2).mean(axis=0) ** 2
    return float(ratios.mean()) * (trials + 1) / (trials - 1)


def _deficits(image: np.ndarray) -> np.ndarray:
    """The best class's scores less those of each other, by rank: float64 [trials, classes - 1]."""
    image = np.asarray(image, dtype=np.float64)
    ranked = np.argsort(-image.sum(axis=0), kind="stable")
    result: np.ndarray = image[:, ranked[:1]] - image[:, ranked[1:]]
    return result


def _fit(variances: np.ndarray, freedom: int) -> tuple[float, float]:
    """Scale and degrees of freedom of pairs whose variances were estimated with `freedom` each."""
    from scipy.special import polygamma, psi

    logs = np.log(variances) - psi(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedom / 2)
    low, high = _DEGREES_OF_FREEDOM
    for _ in range(50):  # polygamma(1, .), the variance of a log chi-squared, falls
        middle = math.sqrt(low * high)
        low, high = (middle, high) if polygamma(1, middle / 2) > excess else (low, middle)
    return float(np.exp((logs.mean() + psi(low / 2) - np.log(low / 2)) / 2)), low


def _measure_shape(pairs: np.ndarray, images: np.ndarray, profiles: np.ndarray) -> Noise:
    """The noise of trials that are not exchangeable.

    pairs: float64 [trials, pairs]; images: whose they are, int [pairs]; profiles: of each image the
    mean deficits, float64 [images, trials].
    """
    budget, stops = len(pairs), looks(len(pairs))
    groups = images if len(np.unique(images)) > 1 else np.arange(len(images))
    folds = np.unique(groups, return_inverse=True)[1] % _FOLDS
    found = []
    for count in [count for count in _FACTORS if count < budget]:
        likelihood, spreads, errors = 0.0, [], []
        for fold in np.unique(folds):
            others = pairs[:, folds != fold]
            told = _shape(others, profiles[np.unique(images[folds != fold])], count)
            left_out = pairs[:, folds == fold]
            spread = ((told.seen(budget, budget).residuals @ left_out) ** 2).sum(axis=0)
            # Restricted to what no mean changes, and maximal over each pair's own scale.
            profile, covariance = told.moments(budget)
            volume = np.linalg.slogdet(covariance)[1]
            volume += np.log(profile @ np.linalg.solve(covariance, profile))
            likelihood -= float((volume + (budget - 1) * np.log(spread)).sum()) / 2
            spreads.append(spread / (budget - 1))
            errors.append(
                [
                    (told.seen(budget, n).weights @ left_out[:n] - left_out.sum(axis=0)) ** 2
                    / told.seen(budget, n).variance
                    for n in stops
                ]
            )
        found.append((likelihood, count, np.concatenate(spreads), np.concatenate(errors, axis=1)))
    _, count, variances, squares = max(found, key=lambda entry: entry[0])
    shape = _shape(pairs, profiles, count)
    scale, freedom = _fit(variances, budget - 1)
    straying = max(1.0, float(squares.mean(axis=1).max() / variances.mean()))
    return replace(shape, scale=scale * math.sqrt(straying), degrees_of_freedom=freedom)


def _shape(pairs: np.ndarray, profiles: np.ndarray, count: int) -> Noise:
    """Weights and covariance of trials, with `count` factors: principal components of what is left
    of differences once each pair's mean is taken out, in units of each trial's deviation."""
    profile = profiles.mean(axis=0)
    weights = np.maximum(profile / profile.mean(), _SMALLEST_WEIGHT)
    weights *= len(pairs) / weights.sum()
    variances, sizes = np.ones(len(pairs)), np.ones(pairs.shape[1])
    for _ in range(_ROUNDS):
        precise = weights / variances
        left = (pairs - np.outer(weights, precise @ pairs / (precise @ weights))) / sizes
        variances = (left**2).mean(axis=1)
        variances = np.maximum(variances, _SMALLEST_VARIANCE * variances.mean())
        sizes *= np.sqrt((left**2 / variances[:, None]).mean(axis=0))
    deviations = np.sqrt(variances)
    left /= deviations[:, None]
    values, vectors = np.linalg.eigh(left @ left.T / left.shape[1])
    factors = (vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0)))[:, :count]
    own = np.clip((left**2).mean(axis=1) - (factors**2).sum(axis=1), _SMALLEST_OWN, 1)
    unit = math.sqrt(len(pairs) / variances.sum())
    deviations *= unit
    return Noise(
        1.0,
        1.0,
        tuple(weights.tolist()),
        tuple((own * deviations**2).tolist()),
        tuple(map(tuple, (factors.T * deviations).tolist())),
    )
