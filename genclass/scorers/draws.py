"""All randomness of an evaluation: a function of (seed, dataset, image id, trial), nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random draws of one image; the same on every device, in every shard and batch.

    A draw is named by its purpose and its trial; `trial=None` is a draw that all trials share.
    All classes see the same draws: they are made before classes come into play.
    """

    seed: int
    dataset: str
    image_id: str

    def generator(self, purpose: str, trial: int | None = None) -> np.random.Generator:
        """A fresh generator for one draw; calling twice gives the same stream twice."""
        key = f"{self.seed}\0{self.dataset}\0{self.image_id}\0{purpose}\0{trial}"
        words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u8")
        return np.random.Generator(np.random.Philox(key=words[:2], counter=[0, 0, *words[2:]]))

    def permutation(self, length: int, trial: int) -> Tensor:
        """An order: a permutation of `length` positions, int64 [length], on the CPU."""
        return torch.from_numpy(self.generator("order", trial).permutation(length))

    def normal(self, shape: tuple[int, ...], purpose: str, trial: int | None = None) -> Tensor:
        """Standard normal noise, float32, on the CPU."""
        draw = self.generator(purpose, trial).standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(draw)
