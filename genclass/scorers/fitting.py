"""Batches that fit into a GPU's memory."""

from __future__ import annotations

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
    """One image under all classes, `batch` of them at a time, in some trials.

    Returns:
        float32 [trials, classes], and the batch that fitted into memory.

    Raises:
        GenclassError: not even one class at a time fits.
    """
    columns = device_tensor(classes, scorer.device)

    def attempt(batch: int) -> np.ndarray:
        together = _trials_together(len(trials), len(columns), batch, scorer.device)
        entries = columns.repeat(together)
        scores = []
        for first in range(0, len(trials), together):
            which = [t for t in trials[first : first + together] for _ in range(len(columns))]
            scores += [
                scorer.score([prepared] * len(some), which[start : start + len(some)], some)
                for start, some in zip(
                    range(0, len(entries), batch), entries.split(batch), strict=True
                )
            ]
        return torch.cat(scores).view(len(trials), -1).float().cpu().numpy()

    return fitting(attempt, batch, scorer.device)


def _trials_together(trials: int, classes: int, batch: int, device: torch.device) -> int:
    """How many trials share a batch: of a few classes, where a GPU would wait for its launches.

    A divisor, so that all batches have one size. On a CPU one: what classes share is computed
    once for a trial.
    """
    most = batch // classes if device.type == "cuda" else 1
    return max(n for n in range(1, max(1, most) + 1) if trials % n == 0)


def device_tensor(values: Any, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    return torch.as_tensor(values).to(device, non_blocking=True)
