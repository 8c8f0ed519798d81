"""Batches that fit into a GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

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
        scores = [
            torch.cat(
                [
                    scorer.score([prepared] * len(some), [trial] * len(some), some)
                    for some in columns.split(batch)
                ]
            )
            for trial in trials
        ]
        return torch.stack(scores).float().cpu().numpy()

    return fitting(attempt, batch, scorer.device)


def device_tensor(values: Any, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    return torch.as_tensor(values).to(device, non_blocking=True)
