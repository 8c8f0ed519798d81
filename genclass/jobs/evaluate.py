"""Evaluate: score the images of one shard and write its score file."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial as bind
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import genclass
from genclass.config import RandARNetwork
from genclass.data.image_list import ImageList
from genclass.errors import GenclassError
from genclass.files import sha256_of
from genclass.jobs.devices import fan_out
from genclass.jobs.partial import Partial
from genclass.jobs.worker import Means, Scored, Scorer
from genclass.planning.work import network_flops
from genclass.racing.pilot import Pilot
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec

_LINE_SECONDS = 30.0  # between two lines of progress in a log
_TURNS = 4  # of races, how often each process takes new images
_ENDS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def evaluate(
    spec: Spec,
    shard: Shard,
    image_list: ImageList,
    images: str | Path,
    network_checkpoint: str | Path,
    encoder_checkpoint: str | Path,
    partial: str | Path,
    destination: str | Path,
    device: torch.device,
    class_batch: int,
    gpus: Sequence[str] = (),
) -> None:
    """Score the shard's images under the spec, resuming what an earlier run left.

    images: the dataset's folder; partial: the folder of partial files; gpus: entries of
    CUDA_VISIBLE_DEVICES; with two or more, a process for each shares the images. A destination
    that is there already, from an earlier run or a twin of this job, is kept.

    Raises:
        GenclassError: a checkpoint, an image or the image list is not the spec's, the shard
            reaches beyond the dataset or divides a race, or the scores are not finite.
    """
    if image_list.sha256 != spec.image_list:
        raise GenclassError(
            f"{spec.dataset}: the image list is not the one of the spec: rerun the workflow"
        )
    if shard.image_stop > len(image_list):
        raise GenclassError(
            f"{shard.name}: {spec.dataset} has only {len(image_list)} images: delete this shard"
        )
    if spec.budget is not None and shard.trials != range(spec.budget):
        raise GenclassError(
            f"{shard.name}: a race of {spec.budget} trials cannot be divided by trials: delete "
            f"this shard"
        )
    for path, section in ((network_checkpoint, spec.network), (encoder_checkpoint, spec.encoder)):
        if not Path(path).is_file():
            raise GenclassError(f"{path}: the checkpoint is missing: bring it back: genclass fetch")
        if (found := sha256_of(path)) != section.checkpoint:
            raise GenclassError(
                f"{path}: sha256 is {found[:12]}..., expected {section.checkpoint[:12]}...: the "
                f"file was changed: delete it, and bring it back: genclass fetch"
            )
    with Partial(partial, spec.sha256, shard, len(spec.candidates)) as done:
        if Path(destination).exists() and _is_ours(destination, spec, shard):
            os.utime(destination)  # it is of these inputs, however often they were written anew
            print(f"{destination} is there already")
            done.remove()
            return
        rows = image_list.rows[shard.image_start : shard.image_stop]
        make = bind(
            Scorer,
            spec,
            shard,
            image_list,
            Path(images),
            (network_checkpoint, encoder_checkpoint),
            done.path.parent,
            device,
            class_batch,
        )
        means = _score_images(make, shard, done, gpus, spec.budget is not None)
        scores, pilot = done.scores(), Pilot.read(done.path.parent)
        if pilot is not None and pilot.shard != shard.name:
            pilot = None  # another shard pays for it
        passes, flops = _work(spec, scores, pilot.passes if pilot else 0)
        header = Header(
            spec=spec.sha256,
            shard=shard.name,
            device=means.device,
            seconds=done.seconds + (pilot.seconds if pilot else 0),
            forward_passes=passes,
            flops=flops,
            peak_memory=means.peak_memory,
            class_batch=means.class_batch,
            racing=spec.budget is not None,
            versions={
                "genclass": genclass.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        )
        ScoreFile(
            header=header,
            image_ids=[row.image_id for row in rows],
            class_ids=np.array(spec.candidates, dtype=np.int64),
            labels=np.array([row.class_id for row in rows], dtype=np.int64),
            scores=scores,
        ).write(destination)
        done.remove()


def _score_images(
    make: Callable[[], Scorer], shard: Shard, done: Partial, gpus: Sequence[str], races: bool
) -> Means:
    """Score what the partial file lacks, and commit image by image."""
    todo = [row for row in range(len(shard.images)) if row not in done.rows]
    with CleanEnd(), Progress(shard.name, len(done.rows), len(shard.images)) as progress:
        results: Iterable[Scored]
        if len(gpus) > 1 and todo:
            used: list[Means] = []
            results = fan_out(gpus[: len(todo)], make, _shares(todo, len(gpus), races))
        else:
            scorer = make()
            used = [scorer.means]
            results = scorer(todo)
        for scored in results:
            done.add(scored.row, scored.scores, scored.seconds)
            used.append(scored.means)
            progress.advance()
    return replace(
        used[-1],
        class_batch=min(means.class_batch for means in used),
        peak_memory=max(means.peak_memory for means in used),
    )


def _work(spec: Spec, scores: np.ndarray, pilot: float) -> tuple[int, int]:
    """Forward passes and FLOPs behind scores [images, trials, classes] and a pilot's passes.

    A look at the first tokens of an order counts as the part of a pass that it is.
    """
    passes = int((~np.isnan(scores)).sum()) + pilot
    flops = passes * network_flops(spec.network)
    if tokens := spec.strategy.tokens:
        assert isinstance(spec.network, RandARNetwork)
        looks = scores.shape[0] * scores.shape[2]
        passes += looks * tokens / spec.network.grid**2
        flops += looks * network_flops(spec.network, tokens)
    return round(passes), round(flops)


def _shares(todo: Sequence[int], processes: int, races: bool) -> list[Sequence[int]]:
    """What processes take in turn: an image; of races, whose images fill batches together, many."""
    size = max(1, len(todo) // (_TURNS * processes)) if races else 1
    return [todo[start : start + size] for start in range(0, len(todo), size)]


class Progress:
    """How many images are scored: a bar in a terminal, now and then a plain line in a log."""

    def __init__(self, name: str, done: int, total: int) -> None:
        self._name, self._before, self._done, self._total = name, done, done, total
        self._start = self._told = time.monotonic()
        self._bar = (
            tqdm(total=total, initial=done, desc=name, unit="image")
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Progress:
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
