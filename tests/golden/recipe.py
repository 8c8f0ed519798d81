"""How the golden files' inputs and weights are made: see README.md here."""

import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def filled(build: Callable[[], Network], salt: str) -> Network:
    """A network in evaluation mode whose every parameter and buffer is filled by the recipe."""
    with torch.device("meta"):  # no time spent on weights that are overwritten
        network = build()
    network.to_empty(device="cpu")
    for name, entry in network.state_dict().items():
        values = weights(salt + name, tuple(entry.shape), is_weight=name.endswith("weight"))
        entry.copy_(torch.from_numpy(values))
    return network.eval()


def weights(key: str, shape: tuple[int, ...], is_weight: bool) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()))
    values = np.asarray(random.standard_normal(shape), dtype=np.float32)
    if len(shape) >= 2:
        values /= np.sqrt(np.prod(shape[1:]))
        return values
    return 1 + 0.1 * values if is_weight else 0.1 * values


def image(seed: int, size: int) -> np.ndarray:
    """[3, size, size] float32 in [-1, 1]."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [
        np.sin(2 * np.pi * (random.rand() * 4 * x + random.rand() * 4 * y + random.rand()))
        for _ in range(3)
    ]
    return np.stack(waves).astype(np.float32)


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """[height, width, 3] uint8."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(
            2
            * np.pi
            * (random.rand() * 6 * x / width + random.rand() * 6 * y / height + random.rand())
        )
        for _ in range(3)
    ]
    return (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
