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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from genclass.files import check_writable, write_atomically
from genclass.jobs.worker import device_name
from genclass.models.dit import DiT, DiTConfig
from genclass.models.flops import dit_flops, randar_flops
from genclass.models.randar import RandAR, RandARConfig, interleave, rotary_table, rotate
from genclass.models.sizes import DIT, RANDAR

# What is measured: network and named size.
NETWORKS = (("randar", "L"), ("dit", "XL"), ("randar", "XL"))
_WIDTH = 120  # of the table in a file or pipe
_GPU_CLASSES, _CPU_CLASSES = 125, 8  # at once; the official code takes 125


@dataclass(frozen=True)
class Measurement:
    """One network in one precision on one machine. Rates are floating-point operations a second."""

    network: str
    dtype: str
    device: str
    classes: int  # scored at once
    matrix_rate: float  # of a large matrix product
    rate: float  # necessary operations, by genclass
    plain_rate: float  # the same necessary operations, by the plain path
    peak_memory: int  # bytes: on a GPU of its tensors, on a CPU of the process
    plain_peak_memory: int
    warm_up: float  # seconds before the first steady pass (compilation)
    difference: float  # largest relative difference of scores to the plain path

    @property
    def share(self) -> float:
        return self.rate / self.matrix_rate

    @property
    def speed_up(self) -> float:
        return self.rate / self.plain_rate

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"share": self.share, "speed_up": self.speed_up}


def plain_log_likelihood(network: RandAR, codes: Tensor, order: Tensor, classes: Tensor) -> Tensor:
    """RandAR as the official code runs it: 2n + 1 positions, the head at all of them, softmax, log.

    codes, order: int64 [n]; classes: int64 [c] -> float32 [c].
    """
    config, batch = network.config, len(classes)
    decoded = codes[order].expand(batch, -1)
    steps = rotary_table(order.expand(batch, -1), config.grid, config.width // config.heads)
    instruction = network.pos_instruct_embeddings.view(1, 1, config.heads, -1)
    instructions = rotate(instruction, steps).flatten(2)
    pairs = torch.stack([instructions, network.tok_embeddings(decoded)], dim=2).flatten(1, 2)
    x = torch.cat([network.cls_embedding(classes).unsqueeze(1), pairs], dim=1)
    cos, sin = interleave(steps)
    rotary = (torch.cat([cos, cos[:, -1:]], dim=1), torch.cat([sin, sin[:, -1:]], dim=1))
    for layer in network.layers:
        x = layer.forward(x, rotary)  # a call would run the compiled block
    probabilities = network.output(network.norm(x)).float().softmax(dim=-1)[:, 1::2]
    return probabilities.gather(2, decoded.unsqueeze(2)).log().sum(dim=(1, 2))


def plain_squared_error(
    network: DiT, noised: Tensor, noise: Tensor, t: int, classes: Tensor
) -> Tensor:
    """DiT as the official code runs it: each class its own latent, all channels computed."""
    batch = len(classes)
    times = torch.full((batch,), t, device=noised.device)
    output = network(noised.expand(batch, -1, -1, -1), times, classes)
    guess = output[:, : network.config.channels].float()
    return ((guess - noise) ** 2).flatten(1).sum(dim=1)


def bench(
    device: torch.device, dtypes: Sequence[str], classes: int, repeats: int
) -> Iterator[Measurement]:
    """Measure every network of NETWORKS in every precision, alternating with the plain path."""
    for dtype in dtypes:
        precision: torch.dtype = getattr(torch, dtype)
        for architecture, size in NETWORKS:
            torch.manual_seed(0)
            make = _randar if architecture == "randar" else _dit
            ours, plain, flops = make(size, device, precision, classes)
            name = f"{architecture} {size}"
            work = flops * classes
            yield _measure(name, ours, plain, work, device, precision, classes, repeats)
            del ours, plain
            if device.type == "cuda":
                gc.collect()  # a compiled module refers to itself
                torch.cuda.empty_cache()


def bench_command(
    device: torch.device, classes: int | None, repeats: int, output: Path, console: Console
) -> None:
    """`genclass bench`: a table, and the numbers as JSON after each network."""
    check_writable(output)
    on_gpu = device.type == "cuda"
    classes = classes or (_GPU_CLASSES if on_gpu else _CPU_CLASSES)
    table = Table(
        *("network", "dtype", "matrix", "genclass", "share", "plain", "speed-up", "memory"),
        *("plain", "warm-up", "difference"),
        title=f"{device_name(device)}, {classes} classes at once; TFLOP/s, GB, s",
    )
    measurements: list[Measurement] = []
    for m in bench(device, ["bfloat16"] if on_gpu else ["float32", "bfloat16"], classes, repeats):
        measurements.append(m)
        write_atomically(output, json.dumps([m.record() for m in measurements], indent=1) + "\n")
        rates = (f"{rate / 1e12:.3g}" for rate in (m.matrix_rate, m.rate, m.plain_rate))
        matrix, ours, plain = rates
        memory = (f"{size / 1e9:.1f}" for size in (m.peak_memory, m.plain_peak_memory))
        table.add_row(
            *(m.network, m.dtype, matrix, ours, f"{m.share:.2f}", plain, f"{m.speed_up:.2f}"),
            *(*memory, f"{m.warm_up:.0f}", f"{m.difference:.1e}"),
        )
        console.print(f"{m.network} {m.dtype}: {m.share:.2f} of the matrix rate", highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    console.print(f"written to {output}")


Pass = Callable[[], Tensor]


def _randar(
    size: str, device: torch.device, dtype: torch.dtype, classes: int
) -> tuple[Pass, Pass, int]:
    sizes: dict[str, Any] = RANDAR[size]
    with device:
        network = RandAR(RandARConfig(**sizes))
    nn.init.normal_(network.output.weight, std=0.02)
    network = network.eval().to(dtype)
    if device.type == "cuda":
        network.compile_scoring()
    codes = torch.randint(0, 16384, (256,), device=device)
    order = torch.randperm(256, device=device)
    labels = torch.arange(classes, device=device)
    return (
        lambda: network.token_log_probs(codes, order, labels).sum(dim=1),
        lambda: plain_log_likelihood(network, codes, order, labels),
        randar_flops(**sizes, vocabulary=16384, tokens=256),
    )


def _dit(
    size: str, device: torch.device, dtype: torch.dtype, classes: int
) -> tuple[Pass, Pass, int]:
    sizes: dict[str, Any] = DIT[size]
    with device:
        network = DiT(DiTConfig(**sizes))
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    network = network.eval().to(dtype)
    plain = copy.deepcopy(network)
    if device.type == "cuda":
        network.compile_scoring()
    noised, noise = torch.randn(2, 1, 4, 32, 32, device=device, dtype=dtype)
    labels = torch.arange(classes, device=device)

    def ours() -> Tensor:
        guess = network.predict_classes(noised, 500, labels).float()
        return ((guess - noise) ** 2).flatten(1).sum(dim=1)

    return (
        ours,
        lambda: plain_squared_error(plain, noised, noise, 500, labels),
        dit_flops(**sizes, patch=2, latent_size=32, channels=4),
    )


def _measure(
    name: str,
    ours: Pass,
    plain: Pass,
    flops: int,
    device: torch.device,
    dtype: torch.dtype,
    classes: int,
    repeats: int,
) -> Measurement:
    """Alternate the three, so that a machine that slows down slows them alike; medians count."""
    with torch.inference_mode():
        warm_up, scores = _timed(ours, device)
        _, expected = _timed(plain, device)
        peaks = [_peak_memory(run, device) for run in (ours, plain)]
        size = 8192 if device.type == "cuda" else 2048
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        times: dict[str, list[float]] = {"matrix": [], "ours": [], "plain": []}
        for _ in range(repeats):
            for key, run in (("matrix", lambda: a @ b), ("ours", ours), ("plain", plain)):
                if key == "matrix":
                    run()
                times[key].append(_timed(run, device)[0])
    steady = {key: statistics.median(values) for key, values in times.items()}
    difference = ((scores - expected).abs() / expected.abs()).max().item()
    return Measurement(
        network=name,
        dtype=str(dtype).removeprefix("torch."),
        device=device_name(device),
        classes=classes,
        matrix_rate=2 * size**3 / steady["matrix"],
        rate=flops / steady["ours"],
        plain_rate=flops / steady["plain"],
        peak_memory=peaks[0],
        plain_peak_memory=peaks[1],
        warm_up=max(0.0, warm_up - steady["ours"]),
        difference=difference,
    )


def _peak_memory(run: Pass, device: torch.device) -> int:
    """Bytes while it runs; 0 where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
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
