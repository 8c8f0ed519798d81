"""Bench: which share of the machine's matrix rate scoring reaches, beside the plain way to do it.

Nothing here decides anything: it measures. Networks have their released shapes and random weights.
"""

from __future__ import annotations

import copy
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from genclass.config import ScoredModel, model_type
from genclass.families import FAMILIES, UNNAMED, System
from genclass.files import write_atomically
from genclass.jobs.worker import device_name
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import fastest_attention

_GPU_CLASSES, _CPU_CLASSES = 1000, 8  # at once
OFFICIAL = 125  # classes that the official code takes at once
MATRIX = {"cuda": 8192, "cpu": 2048}  # rows and columns of the matrices that are multiplied


@dataclass(frozen=True)
class Measurement:
    """One network in one precision on one machine. Rates are floating-point operations a second."""

    network: str
    dtype: str
    device: str
    classes: int  # scored at once
    matrix_rate: float  # of a large matrix product, repeated for as long as a pass, at most 1 s
    rate: float  # necessary operations, by genclass
    plain_rate: float  # the same necessary operations, by the plain path
    official_rate: float | None  # as the official script does; None: that is the plain path
    peak_memory: (
        int  # bytes: on a GPU of the weights and what scoring adds, on a CPU of the process
    )
    plain_peak_memory: int
    warm_up: float  # seconds before the first steady pass (compilation)
    difference: float  # largest relative difference of scores to the plain path

    @property
    def share(self) -> float:
        return self.rate / self.matrix_rate

    @property
    def speed_up(self) -> float:
        return self.rate / self.plain_rate

    @property
    def official_speed_up(self) -> float:
        return self.rate / (self.official_rate or self.plain_rate)

    def record(self) -> dict[str, Any]:
        return asdict(self) | {
            "share": self.share,
            "speed_up": self.speed_up,
            "official_speed_up": self.official_speed_up,
        }


def bench(device: torch.device, classes: int | None, repeats: int) -> Iterator[Measurement]:
    """Measure every network that a family wants measured, alternating with the plain path.

    In bfloat16, on a CPU in float32, too. classes: at once; None: as many as the device likes.
    """
    on_gpu = device.type == "cuda"
    classes = classes or (_GPU_CLASSES if on_gpu else _CPU_CLASSES)
    for dtype in ["bfloat16"] if on_gpu else ["float32", "bfloat16"]:
        for system in benched(dtype):
            passes, weights = _passes(system, device, classes)
            name = f"{system.family.architecture} {system.family.size_name}"
            work = system.work.operations(images=int(not system.work.score), scores=classes)
            yield _measure(name, passes, weights, work, device, dtype, classes, repeats)
            del passes
            if on_gpu:
                gc.collect()  # a compiled module refers to itself
                torch.cuda.empty_cache()


def write_measurements(measurements: Sequence[Measurement], path: Path) -> None:
    """As JSON, with their shares and speed-ups."""
    records = [measurement.record() for measurement in measurements]
    write_atomically(path, json.dumps(records, indent=1) + "\n")


Pass = Callable[[], Tensor]


def benched(dtype: str) -> Iterator[System]:
    """Every network that a family wants measured, in the shape of its release."""
    for architecture, card in FAMILIES.items():
        for options in card.benched:
            raw: dict[str, Any] = {
                "network": {"architecture": architecture, "checkpoint": UNNAMED, **options},
                "classifier": {"dtype": dtype},
                **card.benched_model,
            }
            if card.encoders:
                raw["encoder"] = {"architecture": card.encoders[0], "checkpoint": UNNAMED}
            yield model_type(architecture, ScoredModel).model_validate(raw).system


def _passes(system: System, device: torch.device, classes: int) -> tuple[dict[str, Pass], int]:
    """One image in one trial under so many classes, prepared anew where that is all the work; and
    the bytes of the weights that scoring needs.

    ours: as genclass scores it; plain: the plain way; official: as the official script does, on a
    GPU and where that is neither. The last two take at most `OFFICIAL`
    classes at once, where classes cost anything.
    """
    torch.manual_seed(0)
    with device:
        network = system.family.build()
        encoder = system.encoder.build() if system.encoder else None
    for parameter in network.parameters():  # zeros would run cooler and faster than weights do
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    make, plain = system.family.scorer(), system.family.plain()
    assert plain is not None
    other = make(system, copy.deepcopy(network), copy.deepcopy(encoder), device)
    official = system.family.official() if device.type == "cuda" else None
    if official is not None:
        options = system.options.model_copy(update={"dtype": "float32"})
        rounded = copy.deepcopy(network).bfloat16()
        third = make(replace(system, options=options), rounded, copy.deepcopy(encoder), device)
    scorer = make(system, network, encoder, device)
    if device.type == "cuda":
        scorer.compile()
    pixels = np.random.default_rng(0).integers(0, 256, (system.image_size,) * 2 + (3,), np.uint8)
    image, draws = Image.fromarray(pixels), Draws(0, "bench", "noise")
    prepared = scorer.prepare(image, draws)
    columns = torch.arange(classes, device=device)

    def ours() -> Tensor:
        with fastest_attention(device):
            fresh = prepared if system.work.score else scorer.prepare(image, draws)
            return scorer.score([fresh] * classes, [0] * classes, columns)

    def in_parts(way: Any, scorer: Any) -> Tensor:
        at_once = OFFICIAL if system.work.score else classes
        with torch.enable_grad():  # networks that may learn use none of our kernels
            return torch.cat([way(scorer, prepared, 0, some) for some in columns.split(at_once)])

    passes = {"ours": ours, "plain": lambda: in_parts(plain, other)}
    if official is not None:
        passes["official"] = lambda: in_parts(official, third)
    modules = filter(None, (network, encoder))
    weights = sum(each.nbytes for module in modules for each in module.parameters())
    return passes, weights


def _measure(
    name: str,
    passes: dict[str, Pass],
    weights: int,
    flops: int,
    device: torch.device,
    dtype: str,
    classes: int,
    repeats: int,
) -> Measurement:
    """Alternate them and a product; medians count.

    The product is repeated for as long as genclass's pass takes, up to a second: a card that has
    nothing else to do runs one product faster than it can go on to, since that would take more
    power than it may.
    """
    with torch.inference_mode():
        (warm_up, scores), (_, expected), *_ = (_timed(run, device) for run in passes.values())
        peaks = [_peak_memory(passes[key], weights, device) for key in ("ours", "plain")]
        size = MATRIX[device.type]
        a, b = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))
        _timed(lambda: a @ b, device)
        one, long = (_timed(run, device)[0] for run in (lambda: a @ b, passes["ours"]))
        products = max(1, round(min(long, 1.0) / one))

        def matrix() -> Tensor:
            for _ in range(products):
                c = a @ b
            return c

        runs = {"matrix": matrix, **passes}
        times: dict[str, list[float]] = {key: [] for key in runs}
        for _ in range(repeats):
            for key, run in runs.items():
                times[key].append(_timed(run, device)[0])
    steady = {key: statistics.median(values) for key, values in times.items()}
    difference = ((scores - expected).abs() / expected.abs()).max().item()
    return Measurement(
        network=name,
        dtype=dtype,
        device=device_name(device),
        classes=classes,
        matrix_rate=products * 2 * size**3 / steady["matrix"],
        rate=flops / steady["ours"],
        plain_rate=flops / steady["plain"],
        official_rate=flops / steady["official"] if "official" in steady else None,
        peak_memory=peaks[0],
        plain_peak_memory=peaks[1],
        warm_up=max(0.0, warm_up - steady["ours"]),
        difference=difference,
    )


def _peak_memory(run: Pass, weights: int, device: torch.device) -> int:
    """Bytes while it runs; 0 where the system does not tell."""
    if device.type == "cuda":
        others = torch.cuda.memory_allocated(device) - weights  # the other ways' networks
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - others
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        run()
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _timed(run: Pass, device: torch.device) -> tuple[float, Tensor]:
    """Seconds of one call, until the device is done with it, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result
