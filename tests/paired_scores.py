"""Paired scores as networks were measured to give them, and worse: what races are tested on."""

from __future__ import annotations

import numpy as np


def orders(
    images: int,
    trials: int,
    classes: int,
    spread: float,
    boost: float,
    seed: int = 0,
    gap: float | None = None,
) -> np.ndarray:
    """Scores of an any-order network: float32 [images, trials, classes].

    In units of the noise of a paired difference: class means that differ by `spread`, with heavy
    tails; one class, and to a lesser degree a few like it, above them by about `boost`; noise that
    is normal, independent between trials, a little different for each image and class, and grows
    with the deficit; and what a trial does to all classes, which is much larger. gap: those like
    the best lie at most so far below it.
    """
    random = np.random.default_rng(seed)
    scores = np.empty((images, trials, classes), dtype=np.float32)
    for image in range(images):
        means = spread * random.standard_t(6, classes)
        like = random.choice(classes, min(8, classes // 3), replace=False)
        height = boost * random.lognormal(0, 0.3)
        if gap is None:
            means[like] += 0.7 * height * random.random(len(like))
            means[random.integers(classes)] += height
        else:
            means[like] = means.max() + height - gap * random.random(len(like))
        scale = np.exp(0.2 * random.standard_normal() + 0.15 * random.standard_normal(classes))
        scale *= (1 + (means.max() - means) / 100) / np.sqrt(2)
        noise = scale * random.standard_normal((trials, classes))
        scores[image] = means + noise + 20 * random.standard_normal((trials, 1)) - 2000
    return scores


class Timesteps:
    """A network whose trials are timesteps: strongly unequal, and neighbours say much the same.

    In the order of trials, which spreads each prefix over the timesteps. unequal: of the logarithm
    of what timesteps contribute to a mean difference; own: the part of their variance that they do
    not share with their neighbours, which reach so far as `length` of all; power: how variance
    goes with contribution; freedom: of the variance of pairs.
    """

    def __init__(
        self,
        budget: int,
        length: float = 0.15,
        unequal: float = 1.5,
        own: float = 0.3,
        power: float = 0.7,
        freedom: float = 6.0,
    ) -> None:
        order: dict[int, None] = {}
        index = 0
        while len(order) < budget:
            index += 1
            bits = f"{index:b}"
            order[int(budget * int(bits[::-1], 2) / 2 ** len(bits))] = None
        time = (np.array(list(order)) + 0.5) / budget
        phases = np.random.default_rng(1000).uniform(0, 2 * np.pi, 4)
        waves = sum(np.cos(4 / 3 * np.pi * k * time + phases[k - 1]) / k for k in range(1, 5))
        self.weights = np.exp(unequal * waves)
        self.weights *= budget / self.weights.sum()
        deviations = self.weights**power
        near = np.exp(-np.abs(time[:, None] - time) / length)
        self.covariance = deviations[:, None] * ((1 - own) * near + own * np.eye(budget))
        self.covariance *= deviations
        self.covariance *= budget / self.covariance.sum()
        self._root = np.linalg.cholesky(self.covariance + 1e-9 * np.eye(budget))
        bends = np.exp(-(((time[:, None] - time) / 0.3) ** 2) / 2)
        self._bends = np.linalg.cholesky(bends + 1e-6 * np.eye(budget))
        self._freedom = freedom

    def ties(self, number: int, seed: int) -> np.ndarray:
        """Differences of pairs of classes that tie over the budget: float64 [budget, number]."""
        random = np.random.default_rng(seed)
        found = self._root @ random.standard_normal((len(self._root), number))
        toward = self.covariance.sum(axis=1) / self.covariance.sum()
        found -= np.outer(toward, found.sum(axis=0))
        result: np.ndarray = found * self._scales(random, number)
        return result

    def pilot(self, images: int, seed: int, classes: int = 5) -> list[np.ndarray]:
        """Scores of some classes, whose differences bend each in its own way over the timesteps."""
        random = np.random.default_rng(seed)
        result = []
        for _ in range(images):
            means = -2 * np.abs(random.standard_t(4, classes))
            means[0] = 0
            bends = 1 + 0.3 * self._bends @ random.standard_normal((len(self._root), classes))
            noise = self._root @ random.standard_normal((len(self._root), classes))
            noise *= self._scales(random, classes) / np.sqrt(2)
            result.append(self.weights[:, None] * means * bends + noise)
        return result

    def _scales(self, random: np.random.Generator, number: int) -> np.ndarray:
        result: np.ndarray = np.sqrt(self._freedom / random.chisquare(self._freedom, number))
        return result
