"""Pilot: before a race whose noise is not told, measure it on a few images of the dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from pydantic import NonNegativeFloat, NonNegativeInt

from genclass.files import read_json, write_atomically
from genclass.racing.noise import Noise, kurtosis, measure_noise
from genclass.scores.noise_record import NoiseRecord
from genclass.section import Section

if TYPE_CHECKING:  # they import torch, which a replay needs not
    from genclass.racing.engine import Entry, EntryScorer
    from genclass.scorers.scorer import Prepared

PILOT_IMAGES = 24
_CLASSES = 5
_TRIALS = 8
_MOST_FREEDOM = 16.0  # so few pairs do not show that pairs are more alike than this
_HEAVY = 3.5  # a kurtosis of trials that are all alike: about that of Student's t with 3 degrees
_NAME = "pilot.json"


def pilot_images(images: int) -> range:
    """Which images of a dataset a pilot scores: the first, which are a random sample of it."""
    return range(min(images, PILOT_IMAGES))


@dataclass(frozen=True)
class Finding:
    """What a pilot measured, and the forward passes that it took."""

    noise: Noise
    kurtosis: float
    passes: int


class Pilot(Section):
    """What a pilot found, as a file: with its seconds, and the shard that pays for it."""

    noise: NoiseRecord
    kurtosis: float
    passes: NonNegativeInt
    shard: str
    seconds: NonNegativeFloat

    @classmethod
    def read(cls, folder: Path) -> Pilot | None:
        """What stands in a folder of partial files; None: nothing.

        Raises:
            GenclassError: the file is damaged.
        """
        path = folder / _NAME
        return read_json(path, cls, "pilot", "delete it and rerun") if path.exists() else None


def shared_pilot(folder: Path, shard: str, measure: Callable[[], Finding]) -> Noise:
    """The noise of an evaluation, measured once for all its shards, by the first that needs it.

    folder: of the partial files of one spec, seen by all its jobs.
    """
    with FileLock(folder / f"{_NAME}.lock"):
        found = Pilot.read(folder)
        if found is None:
            start = time.perf_counter()
            finding = measure()
            found = Pilot(
                noise=finding.noise.record,
                kurtosis=finding.kurtosis,
                passes=finding.passes,
                shard=shard,
                seconds=time.perf_counter() - start,
            )
            write_atomically(folder / _NAME, found.model_dump_json() + "\n")
            print(_told(finding), flush=True)
    return Noise.of(found.noise)


def pilot(
    scorer: EntryScorer,
    images: Sequence[Prepared],
    candidates: Sequence[int],
    budget: int,
    exchangeable: bool,
) -> Finding:
    """The noise of a model, measured on its `pilot_images`.

    All candidates are scored in the first trial, the best five in some more: as many as show how
    much one differs from another, and where trials are not exchangeable, in all of them.

    Raises:
        GenclassError: there is nothing to measure: all scores are the same; or one is not finite.
    """

    from genclass.racing.engine import checked

    def scored(entries: list[Entry], *shape: int) -> np.ndarray:
        return np.array(checked(entries, scorer(entries)), dtype=np.float32).reshape(shape)

    trials = pilot_trials(budget, exchangeable)
    firsts = [(image, 0, label) for image in images for label in candidates]
    scores = scored(firsts, len(images), len(candidates))
    columns = _best(scores)
    rest = [
        (image, trial, candidates[column])
        for image, best in zip(images, columns, strict=True)
        for trial in range(1, trials)
        for column in best
    ]
    start = np.take_along_axis(scores, columns, axis=1)[:, None]
    whole = np.concatenate([start, scored(rest, len(images), trials - 1, columns.shape[1])], axis=1)
    noise = pilot_noise(list(whole), exchangeable)
    return Finding(noise, kurtosis(list(whole), noise), len(firsts) + len(rest))


def pilot_noise(scores: Sequence[np.ndarray], exchangeable: bool) -> Noise:
    """The noise that a pilot's scores show: of each image float [trials, classes]."""
    noise = measure_noise(scores, exchangeable)
    return replace(noise, degrees_of_freedom=min(noise.degrees_of_freedom, _MOST_FREEDOM))


def pilot_trials(budget: int, exchangeable: bool) -> int:
    """How many trials a pilot scores."""
    return max(3, min(budget, _TRIALS)) if exchangeable else budget


def pilot_passes(images: int, candidates: int, budget: int, exchangeable: bool) -> int:
    """The forward passes of a pilot on a dataset of so many images."""
    more = min(candidates, _CLASSES) * (pilot_trials(budget, exchangeable) - 1)
    return len(pilot_images(images)) * (candidates + more)


def pilot_scores(scores: np.ndarray, exchangeable: bool) -> list[np.ndarray]:
    """What a pilot would have scored: from exhaustive scores, float [images, trials, classes].

    Returns:
        Of each of its images float [trials, best classes].
    """
    images, budget, _ = scores.shape
    trials, rows = pilot_trials(budget, exchangeable), pilot_images(images)
    shown = np.asarray(scores[: len(rows), :trials])
    return [image[:, best] for image, best in zip(shown, _best(shown[:, 0]), strict=True)]


def _best(scores: np.ndarray) -> np.ndarray:
    """Of [images, classes], the columns of the best few: int64 [images, few]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :_CLASSES]


def _told(finding: Finding) -> str:
    noise = finding.noise
    told = (
        f"pilot: noise {noise.scale:.4g}, degrees of freedom {noise.degrees_of_freedom:.3g}, "
        f"kurtosis {finding.kurtosis:.3g}"
    )
    if noise.trial_weights is None and finding.kurtosis > _HEAVY:
        told += (
            "\nwarning: differences of scores have heavier tails than normal ones (kurtosis 3): "
            "the race may err more often than delta: see its control in the report, or take a "
            "smaller delta"
        )
    return told
