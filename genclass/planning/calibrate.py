"""Calibrate: how fast this machine runs each model of a config, for the plan."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial as bind
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from genclass.config import Config, Model, parse_config
from genclass.data.image_list import ImageRow
from genclass.data.images import load_image
from genclass.errors import GenclassError
from genclass.files import sha256_of
from genclass.jobs.worker import device_name
from genclass.planning.rates import Rate, Rates
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image, trials_together
from genclass.scorers.scorer import Prepared, Scorer
from genclass.sources import Manifest
from genclass.sources.weight_files import checkpoint_sha256
from genclass.text import canonical_json

SECONDS = 3.0  # of forward passes that are measured


def calibrate(config: Config, device: torch.device, say: Callable[[str], None]) -> Rates:
    """Measure every model that the config evaluates; models of one shape are measured once.

    On a GPU as jobs do that are worth compiling: anew, and once more with the code from its file,
    each in a process of its own. Weights are those of the checkpoint where it is on disk, else
    random. `say` gets a line for each measurement.

    Raises:
        GenclassError: a checkpoint on disk is damaged, or a model does not fit into memory; a
            process died.
    """
    imports: dict[str, float] = {}  # by family: some need a library of their own
    measured: dict[str, Rate] = {}
    rates = {}
    for name in dict.fromkeys(model for model, _ in config.cells()):
        model = config.models[name]
        workload = _workload(model)
        if workload not in measured:
            needed = ", ".join(["torch", "genclass.jobs.evaluate", *_libraries(model)])
            if needed not in imports:
                imports[needed] = _seconds_of_imports(device, needed)
            with tempfile.TemporaryDirectory() as folder:
                rate = (
                    rate_compiled(config, name, device, Path(folder))
                    if device.type == "cuda"
                    else _measure(config, model, device, Path(folder))
                )
            rate = replace(rate, seconds_per_job=imports[needed] + rate.seconds_per_job)
            measured[workload] = rate
            once = f", {rate.seconds_to_compile:.2g} s once to compile it"
            say(
                f"{name}: {rate.passes_per_second:.4g} forward passes a second, "
                f"{rate.seconds_per_image:.2g} s an image, {rate.seconds_per_job:.2g} s a job"
                f"{once if rate.seconds_to_compile else ''}"
            )
        rates[name] = measured[workload]
    return Rates(device_name(device), "measured by genclass calibrate", rates)


def _workload(model: Model) -> str:
    """What of a model its speed depends on."""
    cards = [card for card in (model.network, model.encoder) if card]
    return canonical_json(
        {
            "cards": [card.settings for card in cards],
            "classifier": model.classifier.model_dump(
                mode="json", include=set(model.classifier.speed)
            ),
            "image_size": model.image_size,
            "class_batch": model.class_batch,
        }
    )


def _libraries(model: Model) -> list[str]:
    """What takes its time to import, besides torch."""
    return [card.library for card in (model.network, model.encoder) if card and card.library]


def rate_compiled(config: Config, name: str, device: torch.device, folder: Path) -> Rate:
    """The rate of a model's jobs that find its compiled code, and what the first one takes more.

    Seconds of a job are without its imports. folder: empty, for what is measured with.

    Raises:
        GenclassError: see `calibrate`.
    """
    kept = folder / "compiled"
    modules, threads = _libraries(config.models[name]), torch.get_num_threads()
    measure = bind(
        _compiled, config.model_dump_json(), name, device, modules, threads, folder, kept
    )
    return first_and_later(bind(_in_its_own_process, measure), kept)


def first_and_later(measure: Callable[[], Rate], kept: Path) -> Rate:
    """Measure a job that compiles, and one that takes from `kept` what the first one put there."""
    first = measure()
    if not kept.is_file():  # nothing was compiled
        return first
    later = measure()
    once = max(0.0, first.seconds_per_job - later.seconds_per_job)
    return replace(later, seconds_to_compile=once)


def _in_its_own_process(measure: Callable[[], Rate]) -> Rate:
    """Which, as a job's, has compiled nothing yet."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure).result()
    except BrokenProcessPool:
        raise GenclassError(
            "the process that was measured died (see above): check this machine's memory and repeat"
        ) from None


def _compiled(
    config: str,
    name: str,
    device: torch.device,
    modules: Sequence[str],
    threads: int,
    folder: Path,
    kept: Path,
) -> Rate:
    """In a new process, on what is to torch a new node. config: as JSON, as types of a plugin are
    known in their process only."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
    torch.set_num_threads(threads)
    for module in modules:
        importlib.import_module(module)
    torch.zeros(1, device=device)
    parsed = parse_config(json.loads(config), "the config")
    return _measure(parsed, parsed.models[name], device, folder, kept)


def _measure(
    config: Config, model: Model, device: torch.device, folder: Path, kept: Path | None = None
) -> Rate:
    """Seconds of a job are without its imports. kept: the file of compiled code; None: as it is."""
    system = model.system
    files: dict[str, Path] = {}
    for part, card in (("network", system.family), ("encoder", system.encoder)):
        if card is None:
            continue
        found = {
            key: path
            for key, name in system.checkpoints.items()
            if key.startswith("encoder") == (part == "encoder")
            and (path := _checkpoint(config, name))
        }
        if part not in found:  # without weights, what stands beside them is of no use
            weights = folder / f"{part}.safetensors"
            if not weights.is_file():
                with device:  # a GPU draws random weights at once
                    _random_weights(card.build(), weights)
            found = {part: weights}
        files |= found
    start = time.perf_counter()
    for path in files.values():  # as every job does
        checkpoint_sha256(path)
    scorer = system.load(files, device)
    if kept is not None:
        if kept.is_file():
            torch.compiler.load_cache_artifacts(kept.read_bytes())
        scorer.compile()
    start_up = time.perf_counter() - start
    row = _photograph(folder, 2 * model.image_size)

    def prepare() -> Prepared:
        image = load_image(folder, row, border=0)
        prepared = scorer.prepare(image, Draws(0, "calibration", row.image_id))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return prepared

    prepared = prepare()
    per_image = _timed(prepare, repetitions=3)
    passes_per_second, first = _speed(scorer, prepared, model)
    if kept is not None and (artifacts := torch.compiler.save_cache_artifacts()):
        kept.write_bytes(artifacts[0])
    return Rate(passes_per_second, per_image, start_up + first)


def _speed(scorer: Scorer, prepared: Prepared, model: Model) -> tuple[float, float]:
    """Forward passes a second, and the seconds that only the first ones take.

    At the model's class batch or what fits of it into memory; on a CPU at a smaller one where that
    takes longer than `SECONDS`.
    """
    most = min(model.class_batch, model.network.classes)
    together = min(model.trials, trials_together(most, model.class_batch))
    sizes = [(together, most)]  # trials, classes
    if scorer.device.type != "cuda":  # a GPU would compile each size
        smaller = [(1, 4**power) for power in range(most.bit_length()) if 4**power < most]
        sizes = list(dict.fromkeys([*smaller, (1, most), *sizes]))
    for trials, count in sizes:
        score = _scoring(scorer, prepared, trials, count)
        first, seconds = _timed(score, 1), _timed(score, 1)
        if seconds > SECONDS / 4:
            break
    if seconds < SECONDS:  # once more would say nothing new of a large network on a CPU
        seconds = _timed(score, round(SECONDS / seconds))
    return trials * count / seconds, max(0.0, first - seconds)


def _scoring(scorer: Scorer, prepared: Prepared, trials: int, classes: int) -> Callable[[], None]:
    """Score them at once; once that was too much for the memory, in the batch that fitted."""
    batch = trials * classes

    def score() -> None:
        nonlocal batch
        _, batch = score_image(scorer, prepared, range(trials), torch.arange(classes), batch)

    return score


def _timed(action: Callable[[], object], repetitions: int) -> float:
    """Seconds of one repetition."""
    start = time.perf_counter()
    for _ in range(repetitions):
        action()
    return (time.perf_counter() - start) / repetitions


def _seconds_of_imports(device: torch.device, modules: str) -> float:
    """Of a job, until it can load its checkpoints."""
    code = f"import {modules}; torch.zeros(1, device='{device}')"
    for module in modules.split(", "):  # so that it is not counted again with the checkpoints
        importlib.import_module(module)
    return _timed(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1)


def _checkpoint(config: Config, name: str) -> Path | None:
    """The checkpoint's file, where it was fetched."""
    try:
        path = Path(Manifest.read(config.run.manifest("checkpoints", name)).path)
    except GenclassError:
        return None
    return path if path.is_file() else None


def _random_weights(network: nn.Module, path: Path) -> None:
    """Zeros, as some layers start with, would run cooler and faster than real weights."""
    weights = {
        key: 0.02 * torch.randn_like(value) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    save_file(weights, path)


def _photograph(folder: Path, size: int) -> ImageRow:
    """A JPEG of noise, and its row of an image list."""
    path = folder / "photograph.jpeg"
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return ImageRow("photograph", path.name, 0, sha256_of(path))
