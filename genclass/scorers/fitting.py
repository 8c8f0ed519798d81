"""Batches that fit into a GPU's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from genclass.errors import GenclassError

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
