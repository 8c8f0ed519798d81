"""Pilot: before a race whose noise is not told, measure it on a few images of the dataset."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.racing.engine import PairScorer
from genclass.racing.schedule import PILOT_CLASSES, Noise, pilot_noise, pilot_trials
from genclass.scorers.scorer import Prepared


@dataclass(frozen=True)
class Pilot:
    """What a pilot found, what it cost, and the shard that pays for it."""

    noise: Noise
    shard: str
    passes: float  # looks at first tokens count as the part of a pass that they are
    seconds: float

    @classmethod
    def read(cls, folder: Path) -> Pilot | None:
        """What stands in a folder of partial files; None: nothing.

        Raises:
            GenclassError: the file is damaged.
        """
        path = folder / _NAME
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            told = raw.pop("noise")
            shares, first = told.pop("shares"), told.pop("first_tokens")
            noise = Noise(
                **told, shares=shares and tuple(shares), first_tokens=first and Noise(**first)
            )
            return cls(noise, **raw)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise GenclassError(f"{path}: damaged: delete it and rerun") from None


_NAME = "pilot.json"


def shared_pilot(folder: Path, shard: str, measure: Callable[[], tuple[Noise, float]]) -> Noise:
    """The noise of an evaluation, measured once for all its shards, by the first that needs it.

    folder: of the partial files of one spec, seen by all its jobs. measure: returns the noise and
    the forward passes it took.
    """
    with FileLock(folder / f"{_NAME}.lock"):
        found = Pilot.read(folder)
        if found is None:
            start = time.perf_counter()
            noise, passes = measure()
            found = Pilot(noise, shard, passes, time.perf_counter() - start)
            write_atomically(folder / _NAME, json.dumps(asdict(found)) + "\n")
            print(f"pilot: noise {noise.scale:.4g}, freedom {noise.freedom:.3g}", flush=True)
    return found.noise


def pilot(
    scorer: PairScorer,
    images: Sequence[Prepared],
    candidates: Sequence[int],
    budget: int,
    steps: bool,
    tokens: int | None = None,
    order: int = 1,
) -> tuple[Noise, float]:
    """The noise of a classifier, measured on its `pilot_places`; and the forward passes it took.

    steps: the classifier's trials are timesteps; tokens: how many tokens of an order a race looks
    at first (None: at whole trials) of the `order` that it has.

    Raises:
        GenclassError: there is nothing to measure: all scores are the same.
    """
    trials = pilot_trials(budget, steps)
    first = scorer([(image, 0, label) for image in images for label in candidates])
    scores = first.float().cpu().numpy().reshape(len(images), len(candidates))
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :PILOT_CLASSES]

    def of_the_best(trials: range, tokens: int | None = None) -> np.ndarray:
        """float32 [images, trials, best classes]."""
        entries = [
            (image, trial, candidates[column])
            for image, best in zip(images, columns, strict=True)
            for trial in trials
            for column in best
        ]
        found = scorer(entries, tokens).float().cpu().numpy()
        return found.reshape(len(images), len(trials), columns.shape[1])

    start = np.take_along_axis(scores, columns, axis=1)[:, None]
    whole = np.concatenate([start, of_the_best(range(1, trials))], axis=1)
    passes: float = scores.size + columns.size * (trials - 1)
    parts: list[np.ndarray] = []
    if tokens is not None:
        parts = list(of_the_best(range(trials), tokens))
        passes += columns.size * trials * tokens / order
    return pilot_noise(list(whole), steps, parts), passes
