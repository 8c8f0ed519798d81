"""Evaluate: score the images of one shard and write its score file."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial as bind
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import genclass
from genclass.errors import GenclassError
from genclass.families import plugin_of
from genclass.jobs.costs import costs
from genclass.jobs.devices import fan_out
from genclass.jobs.partial import Partial
from genclass.jobs.worker import Job, Means, Scored, Worker
from genclass.racing.pilot import Pilot
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from genclass.sources.weight_files import checkpoint_sha256
from genclass.specs.spec import Spec

_LINE_SECONDS = 30.0  # between two lines of progress in a log
_TURNS = 4  # of races, how often each process takes new images
_ENDS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def evaluate(job: Job, destination: str | Path, gpus: Sequence[str] = ()) -> None:
    """Score the shard's images under the spec, resuming what an earlier run left.

    gpus: entries of CUDA_VISIBLE_DEVICES; with two or more, a process for each shares the images.
    A destination that is there already, from an earlier run or a twin of this job, is kept.

    Raises:
        GenclassError: a checkpoint, a plugin, an image or the image list is not the spec's, the
            shard reaches beyond the dataset or divides a race, or scores are not finite.
    """
    spec, shard = job.spec, job.shard
    _check_inputs(job)
    partial = Partial(job.partial, spec.sha256, shard, len(spec.candidates), spec.races)
    with partial as done:
        if Path(destination).exists() and _is_ours(destination, spec, shard):
            os.utime(destination)  # it is of these inputs, however often they were written anew
            print(f"{destination} is there already")
            done.remove()
            return
        rows = job.image_list.rows[shard.image_start : shard.image_stop]
        means = _score_images(job, done, gpus)
        scores, pilot = done.scores(), Pilot.read(done.path.parent)
        noise = pilot.noise if pilot else None
        if pilot is not None and pilot.shard != shard.name:
            pilot = None  # another shard pays for it
        scored = int((~np.isnan(scores)).sum()) + (pilot.passes if pilot else 0)
        passes, operations = costs(spec, len(rows), scored)
        header = Header(
            spec=spec.sha256,
            shard=shard.name,
            device=means.device,
            seconds=done.seconds + (pilot.seconds if pilot else 0),
            forward_passes=passes,
            flops=operations,
            peak_memory=means.peak_memory,
            class_batch=means.class_batch,
            racing=spec.races,
            noise=noise,
            versions={
                "genclass": genclass.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        )
        ScoreFile(
            header=header,
            spec=spec.text,
            image_ids=[row.image_id for row in rows],
            class_ids=np.array(spec.candidates, dtype=np.int64),
            labels=np.array([row.class_id for row in rows], dtype=np.int64),
            scores=scores,
        ).write(destination)
        done.remove()


def _check_inputs(job: Job) -> None:
    """They are those of the spec; a job may have waited in a queue for days."""
    spec, shard = job.spec, job.shard
    if job.image_list.sha256 != spec.image_list:
        raise GenclassError(
            f"{spec.dataset}: the image list is not the one of the spec: rerun the workflow"
        )
    if shard.image_stop > len(job.image_list):
        raise GenclassError(
            f"{shard.name}: {spec.dataset} has only {len(job.image_list)} images: delete this shard"
        )
    if shard.race != spec.races or spec.budget not in (None, shard.trial_stop):
        races = f"races for {spec.budget} trials" if spec.races else "does not race"
        raise GenclassError(f"{shard.name}: its spec {races}: delete this shard")
    if (found := plugin_of(spec.system.family)) != spec.plugin:
        raise GenclassError(
            f"the plugin of '{spec.system.family.architecture}' is {(found or 'none')[:12]}, but "
            f"this job was planned with {(spec.plugin or 'none')[:12]}: rerun the workflow"
        )
    if set(job.files) != set(spec.files):
        raise GenclassError(
            f"the spec is of the files {', '.join(spec.files)}, not of {', '.join(job.files)}: "
            f"rerun the workflow"
        )
    for part, path in job.files.items():
        if not path.is_file():
            raise GenclassError(f"{path}: the checkpoint is missing: bring it back: genclass fetch")
        if (sha256 := checkpoint_sha256(path)) != spec.files[part]:
            raise GenclassError(
                f"{path}: sha256 is {sha256[:12]}..., expected {spec.files[part][:12]}...: the "
                f"file was changed: delete it, and bring it back: genclass fetch"
            )


def _score_images(job: Job, done: Partial, gpus: Sequence[str]) -> Means:
    """Score what the partial file lacks, and commit image by image."""
    shard = job.shard
    todo = [row for row in range(len(shard.images)) if row not in done.rows]
    with CleanEnd(), ShardProgress(shard.name, len(done.rows), len(shard.images)) as progress:
        results: Iterable[Scored]
        if len(gpus) > 1 and todo:
            used: list[Means] = []
            turns = _shares(todo, len(gpus), job.spec.races)
            results = fan_out(gpus[: len(todo)], bind(Worker, job), turns)
        else:
            worker = Worker(job)
            used = [worker.means]
            results = worker(todo)
        for scored in results:
            done.add(scored.row, scored.scores, scored.seconds)
            used.append(scored.means)
            progress.advance()
    return replace(
        used[-1],
        class_batch=min(means.class_batch for means in used),
        peak_memory=max(means.peak_memory for means in used),
    )


def _shares(todo: Sequence[int], processes: int, races: bool) -> list[Sequence[int]]:
    """What processes take in turn: an image; of races, whose images fill batches together, many."""
    size = max(1, len(todo) // (_TURNS * processes)) if races else 1
    return [todo[start : start + size] for start in range(0, len(todo), size)]


class ShardProgress:
    """How many images are scored: a bar in a terminal, now and then a plain line in a log."""

    def __init__(self, name: str, done: int, total: int) -> None:
        self._name, self._before, self._done, self._total = name, done, done, total
        self._start = self._told = time.monotonic()
        self._bar = (
            tqdm(total=total, initial=done, desc=name, unit="image")
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> ShardProgress:
        if self._bar is None:
            print(f"{self._name}: {self._done}/{self._total} images so far", flush=True)
        return self

    def advance(self) -> None:
        """One image more."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
            return
        now = time.monotonic()
        last = self._done == self._total
        if last or now - self._told >= _LINE_SECONDS:
            rate = (self._done - self._before) / (now - self._start)
            left = (self._total - self._done) / rate
            print(
                f"{self._name}: {self._done}/{self._total} images, {rate:.3g} images/s, "
                f"{left:.0f} s left",
                flush=True,
            )
            self._told = now

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


class CleanEnd:
    """SIGTERM, SIGUSR1 (a cluster's warnings) and SIGINT end the process at once.

    Every image that is scored is committed by then, and locks end with their process. The signal
    is answered by a thread: the main one may be waiting for the GPU for a minute.
    """

    def __enter__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write)
        self._old = {number: signal.signal(number, lambda *_: None) for number in _ENDS}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while received := os.read(self._read, 1):
            number = received[0]
            if number in _ENDS:
                name = signal.Signals(number).name
                print(f"{name}: stopping; a rerun goes on from here", flush=True)
                for process in multiprocessing.active_children():
                    process.kill()
                os._exit(128 + number)

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)


def _is_ours(path: str | Path, spec: Spec, shard: Shard) -> bool:
    try:
        header = ScoreFile.read(path).header
    except GenclassError:
        return False
    return header.spec == spec.sha256 and header.shard == shard.name
