"""Scorer: a classifier on its device that scores a shard's images, one by one or in races."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genclass.config import RandARNetwork, TimestepClassifier
from genclass.data.image_list import ImageList
from genclass.data.images import load_image
from genclass.errors import GenclassError
from genclass.racing.engine import PairScorer, race
from genclass.racing.pilot import pilot, shared_pilot
from genclass.racing.schedule import Exhaustive, Noise, build_schedule, pilot_places
from genclass.scorers.build import build_classifier
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import fitting
from genclass.scorers.scorer import Classifier, Prepared, device_tensor
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec


@dataclass(frozen=True)
class Means:
    """With what a process scores."""

    device: str
    class_batch: int
    peak_memory: int  # bytes


@dataclass(frozen=True)
class Scored:
    """One image of a shard."""

    row: int  # in the shard
    scores: np.ndarray  # float32 [trials, classes]; NaN where a race left a class out
    seconds: float
    means: Means


class Scorer:
    """A classifier on its device, and the images of a shard: one process of an evaluation.

    partial: the folder of the spec's partial files, where a pilot leaves what it measured.
    """

    def __init__(
        self,
        spec: Spec,
        shard: Shard,
        image_list: ImageList,
        folder: Path,
        checkpoints: tuple[str | Path, str | Path],
        partial: Path,
        device: torch.device,
        class_batch: int,
    ) -> None:
        self._spec, self._shard, self._rows, self._folder = spec, shard, image_list.rows, folder
        self._partial = partial
        self._class_batch = class_batch
        self._classifier = build_classifier(
            spec.network, spec.encoder, spec.classifier, spec.image_size, *checkpoints, device
        )
        self._schedule = build_schedule(spec.strategy, self._pilot)

    def __call__(self, rows: Sequence[int]) -> Iterator[Scored]:
        """Score some images of the shard; a race gives them in the order in which they end."""
        prepared = self._prepared([self._shard.image_start + row for row in rows])
        if isinstance(self._schedule, Exhaustive):
            classes = device_tensor(self._spec.candidates, self._classifier.device)
            for row in rows:
                start = time.perf_counter()
                scores, self._class_batch = score_image(
                    self._classifier, next(prepared), self._shard.trials, classes, self._class_batch
                )
                yield Scored(row, scores, time.perf_counter() - start, self.means)
            return
        scorer = PairScorer(self._classifier, self._class_batch)
        budget = len(self._shard.trials)
        for raced in race(scorer, prepared, self._spec.candidates, budget, self._schedule):
            self._class_batch = scorer.batch
            yield Scored(rows[raced.place], raced.scores, raced.seconds, self.means)

    @property
    def means(self) -> Means:
        device = self._classifier.device
        return Means(
            device_name(device),
            self._class_batch,
            _peak_memory(device),
        )

    def _prepared(self, places: Sequence[int]) -> Iterator[Prepared]:
        """Images of the dataset, encoded; the next one is read while this one is scored."""

        def load(place: int) -> Image.Image:
            return load_image(self._folder, self._rows[place], self._spec.border)

        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(load, place) for place in places[:1]]
            for place, following in zip(places, [*places[1:], None], strict=True):
                image = coming.pop().result()
                if following is not None:
                    coming.append(reader.submit(load, following))
                draws = Draws(self._spec.seed, self._spec.dataset, self._rows[place].image_id)
                yield self._classifier.prepare(image, draws)

    def _pilot(self) -> Noise:
        """The noise of this evaluation, where the config does not tell it."""

        def measure() -> tuple[Noise, float]:
            spec = self._spec
            return pilot(
                PairScorer(self._classifier, self._class_batch),
                list(self._prepared(pilot_places(len(self._rows)))),
                spec.candidates,
                len(self._shard.trials),
                steps=isinstance(spec.classifier, TimestepClassifier),
                tokens=spec.strategy.tokens,
                order=spec.network.grid**2 if isinstance(spec.network, RandARNetwork) else 1,
            )

        return shared_pilot(self._partial, self._shard.name, measure)


def score_image(
    classifier: Classifier, prepared: Prepared, trials: range, classes: torch.Tensor, batch: int
) -> tuple[np.ndarray, int]:
    """float32 [trials, classes], and the class batch that fitted into memory.

    Raises:
        GenclassError: not even one class at a time fits.
    """

    def attempt(batch: int) -> np.ndarray:
        return classifier.score(prepared, trials, classes, batch).cpu().numpy()

    return fitting(attempt, batch, classifier.device)


def choose_device(wanted: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu` or `cuda`.

    Raises:
        GenclassError: CUDA is wanted and absent.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise GenclassError(
            f"a GPU was asked for, but torch {torch.__version__} sees none on {platform.node()}: "
            f"check the driver, the job's GPU request and CUDA_VISIBLE_DEVICES"
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """The device's own name, as a report shows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model} (CPU, {torch.get_num_threads()} threads)"


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
