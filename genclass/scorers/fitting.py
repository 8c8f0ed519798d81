"""Batches that fit into a GPU's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from genclass.errors import GenclassError
from genclass.scorers.scorer import Prepared, Scorer

Result = TypeVar("Result")

# Trials that share a batch, where a few classes alone would not fill it. Groups begin at multiples
# of it and are scored whole, whichever of their trials are asked for: so a batch is made of the
# same entries, and gives the same bytes, however trials are divided among shards. Usual budgets are
# multiples of it; larger batches gained nothing more on CPUs.
_TOGETHER = 5

# More entries at once gain only where a GPU scores all of an image's many classes: on a CPU they
# cost memory alone, and a race would pad its last batches with them.
MODERATE = 250


def fitting(
    attempt: Callable[[int], Result], batch: int, device: torch.device
) -> tuple[Result, int]:
    """What `attempt(batch)` gives, and the batch that fitted into memory.

    Out of GPU memory, the batch is halved and the attempt made again: the numbers are the same.

    Raises:
        GenclassError: not even one class at a time fits.
    """
    while True:
        try:
            with fastest_attention(device):
                return attempt(batch), batch
        except torch.OutOfMemoryError:
            if batch == 1:
                raise GenclassError(
                    f"{device}: out of memory with one class at a time: use a larger GPU, or "
                    f"dtype bfloat16"
                ) from None
        # Outside of the handler: it holds the tensors of the failed attempt.
        batch //= 2
        torch.cuda.empty_cache()
        print(f"out of memory: going on with {batch} classes at a time", flush=True)


def fastest_attention(device: torch.device) -> AbstractContextManager[None]:
    """cuDNN's kernels come first from Hopper on, where they take half to two thirds of the time."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        return nullcontext()
    order = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    return sdpa_kernel(order, set_priority=True)


@torch.inference_mode()
def score_image(
    scorer: Scorer, prepared: Prepared, trials: range, classes: Sequence[int] | Tensor, batch: int
) -> tuple[np.ndarray, int]:
    """One image under all classes, at most `batch` of them at a time, in some trials.

    They are divided evenly: on a GPU, each size of a batch is compiled for itself.

    Returns:
        float32 [trials, classes], and the batch that fitted into memory.

    Raises:
        GenclassError: not even one class at a time fits.
    """
    columns = device_tensor(classes, scorer.device)
    there_are = max(scorer.system.trial.limit or math.inf, trials.stop)
    if scorer.device.type == "cpu":
        batch = min(batch, MODERATE)
    # No more than there is: halved, out of memory, a batch is smaller than the one that failed.
    batch = min(batch, len(columns) * trials_together(len(columns), batch))

    def attempt(batch: int) -> np.ndarray:
        together = trials_together(len(columns), batch)
        first = trials.start - trials.start % together
        scores = []
        for start in range(first, trials.stop, together):
            group = range(start, int(min(start + together, there_are)))
            entries = columns.repeat(len(group))
            which = [trial for trial in group for _ in range(len(columns))]
            size = math.ceil(len(entries) / math.ceil(len(entries) / batch))
            scores += [
                scorer.score([prepared] * len(some), which[done : done + len(some)], some)
                for done, some in zip(
                    range(0, len(entries), size), entries.split(size), strict=True
                )
            ]
        table = torch.cat(scores).view(-1, len(columns))
        return table[trials.start - first :][: len(trials)].float().cpu().numpy()

    return fitting(attempt, batch, scorer.device)


def trials_together(classes: int, batch: int) -> int:
    """How many trials of so many classes share a batch, where an image has as many.

    In no more than half of `MODERATE` entries: larger batches are full enough with one.
    """
    return max(1, min(_TOGETHER, batch // classes, MODERATE // 2 // classes))


def device_tensor(values: Any, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    return torch.as_tensor(values).to(device, non_blocking=True)
