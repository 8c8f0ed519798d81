"""A worker: a scorer on its device, with which one process scores images of a shard."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genclass.data.image_list import ImageList
from genclass.data.images import load_image
from genclass.errors import GenclassError
from genclass.families import load_plugins, plugins_of_the_run
from genclass.jobs.compile_cache import CompileCache
from genclass.jobs.devices import driver_says
from genclass.racing.engine import EntryScorer, race
from genclass.racing.noise import Noise
from genclass.racing.pilot import Finding, pilot, pilot_images, shared_pilot
from genclass.racing.schedule import Exhaustive, build_schedule
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image
from genclass.scorers.scorer import Prepared
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec

# Seconds of work that make up for those that compiling takes, and taking it from its file.
_COMPILING, _UNPACKING = 60.0, 20.0
_SHARE = 0.4  # of the matrix rate, without compiling


@dataclass(frozen=True)
class Job:
    """What an evaluation of a shard is made of.

    folder: of the dataset; files: what each checkpoint is for -> the file; partial: the folder of
    the cell's partial files; compiled: that of the run's compiled code.
    """

    spec: Spec
    shard: Shard
    image_list: ImageList
    folder: Path
    files: Mapping[str, Path]
    partial: Path
    compiled: Path
    device: torch.device
    class_batch: int


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


class Worker:
    """The scorer of a job, and the images of its shard; made in the process that it works in."""

    def __init__(self, job: Job) -> None:
        load_plugins(plugins_of_the_run())  # of a process of its own
        self._job, self._spec, self._shard = job, job.spec, job.shard
        self._class_batch = job.class_batch
        start = time.perf_counter()
        self._scorer = job.spec.system.load(job.files, job.device)
        self._cache: CompileCache | None = None
        if job.device.type == "cuda":
            cache = CompileCache(job.compiled, job.spec, job.class_batch)
            if _is_worth_compiling(job, cache.path.is_file()):
                self._cache = cache
                cache.load()
                self._scorer.compile()
        self._loading: float | None = time.perf_counter() - start
        self._schedule = build_schedule(
            job.spec.schedule,
            self._pilot,
            len(job.spec.candidates),
            job.spec.system.trial.exchangeable,
        )

    def __call__(self, rows: Sequence[int]) -> Iterator[Scored]:
        """Score some images of the shard; a race gives them in the order in which they end."""
        prepared = self._prepared([self._shard.image_start + row for row in rows])
        if isinstance(self._schedule, Exhaustive):
            candidates = torch.tensor(self._spec.candidates)
            for row in rows:
                start = time.perf_counter()
                scores, self._class_batch = score_image(
                    self._scorer,
                    next(prepared),
                    self._shard.trials,
                    candidates,
                    self._class_batch,
                )
                self._check(scores, row)
                seconds = time.perf_counter() - start
                self._started(seconds)
                yield Scored(row, scores, seconds, self.means)
            return
        scorer = EntryScorer(self._scorer, self._class_batch)
        budget = len(self._shard.trials)
        for raced in race(scorer, prepared, self._spec.candidates, budget, self._schedule):
            self._class_batch = scorer.batch
            self._started(raced.seconds)
            yield Scored(rows[raced.place], raced.scores, raced.seconds, self.means)

    def _started(self, seconds: float) -> None:
        """After an image: what the first one took is said, and what it compiled is kept."""
        if self._loading is None:
            return
        print(f"loaded in {self._loading:.1f} s, first image in {seconds:.1f} s", flush=True)
        self._loading = None
        if self._cache:
            self._cache.save()

    @property
    def means(self) -> Means:
        device = self._scorer.device
        return Means(
            device_name(device),
            self._class_batch,
            _peak_memory(device),
        )

    def _check(self, scores: np.ndarray, row: int) -> None:
        """What was just scored is finite, or the job ends: at the first image, not after many."""
        if not np.isfinite(scores).all():
            image = self._job.image_list.rows[self._shard.image_start + row].image_id
            raise GenclassError(
                f"{image}: {int((~np.isfinite(scores)).sum())} of {scores.size} scores are not "
                f"finite: check the checkpoint and the dtype"
            )

    def _prepared(self, places: Sequence[int]) -> Iterator[Prepared]:
        """Images of the dataset, encoded; the next one is read while this one is scored."""

        def load(place: int) -> Image.Image:
            return load_image(self._job.folder, self._job.image_list.rows[place], self._spec.border)

        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(load, place) for place in places[:1]]
            for place, following in zip(places, [*places[1:], None], strict=True):
                image = coming.pop().result()
                if following is not None:
                    coming.append(reader.submit(load, following))
                draws = Draws(
                    self._spec.seed, self._spec.dataset, self._job.image_list.rows[place].image_id
                )
                yield self._scorer.prepare(image, draws)

    def _pilot(self) -> Noise:
        """The noise of this evaluation, where the config does not tell it."""

        def measure() -> Finding:
            return pilot(
                EntryScorer(self._scorer, self._class_batch),
                list(self._prepared(pilot_images(len(self._job.image_list)))),
                self._spec.candidates,
                len(self._shard.trials),
                self._spec.system.trial.exchangeable,
            )

        return shared_pilot(self._job.partial / self._spec.sha256, self._shard.name, measure)


def _is_worth_compiling(job: Job, kept: bool) -> bool:
    """Is there more work than compiling takes? Decided by the device's own rate, and said.

    kept: an earlier job did it, in all likelihood.
    """
    scores = len(job.shard.images) * len(job.shard.trials) * len(job.spec.candidates)
    size = 4096
    a = torch.randn(size, size, device=job.device, dtype=torch.bfloat16)
    a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    a @ a
    torch.cuda.synchronize()
    rate = 2 * size**3 / (time.perf_counter() - start)
    seconds = job.spec.system.work.operations(0, scores) / (_SHARE * rate)
    worth = seconds > (_UNPACKING if kept else _COMPILING)
    print(
        f"{'compiled' if worth else 'not compiled'}: about {seconds:.0f} s of work at "
        f"{_SHARE * rate / 1e12:.0f} TFLOP/s, at most",
        flush=True,
    )
    return worth


def _why_no_gpu() -> str:
    """A line: which of the reasons it is that torch sees no GPU, and what to do."""
    asked = f"a GPU was asked for, but torch {torch.__version__} sees none on {platform.node()}"
    built = torch.version.cuda
    if built is None:
        return f"{asked}: it was built without CUDA: docs/cluster.md says how to put in another"
    shown = driver_says()
    if not shown:
        return f"{asked}: no driver answers (nvidia-smi): ask for a node with a GPU, or its admin"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    indices = [index for index, _, _ in shown]
    if visible is not None and not all(
        name.strip() in indices or name.strip().startswith(("GPU-", "MIG-"))
        for name in visible.split(",")
    ):
        return (
            f"{asked}: CUDA_VISIBLE_DEVICES is {visible!r}, but the driver shows "
            f"{', '.join(indices)}: correct it, or unset it"
        )
    return (
        f"{asked}: its CUDA {built} may want a newer driver than {shown[0][2]}: docs/cluster.md "
        f"says how to put in a torch for an older one"
    )


def choose_device(wanted: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu` or `cuda`.

    Raises:
        GenclassError: CUDA is wanted and absent.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise GenclassError(_why_no_gpu())
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
