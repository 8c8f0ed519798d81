"""Checkpoints: read without running their code, and checked against the network."""

from __future__ import annotations

import argparse
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genclass.errors import GenclassError

_WRAPPERS = ("ema", "model", "state_dict")  # where released files put the weights

_DAMAGE = (
    SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    IndexError,
    struct.error,
)  # what reading a file that was cut off may raise

# What is sometimes saved under a checkpoint's name, by how it begins.
_NO_CHECKPOINTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page, not a checkpoint",
}

# Names of the autoencoder's attention in files written before diffusers renamed them.
_RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file or a pickle, on the CPU.

    Raises:
        GenclassError: the file is missing, damaged, holds no state dict, or is a pickle that
            would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise GenclassError(f"{path}: the checkpoint is missing: bring it back: genclass fetch")
    with path.open("rb") as file:
        start = file.read(64)
    for beginning, reason in _NO_CHECKPOINTS.items():
        if start.lstrip().startswith(beginning):
            raise GenclassError(f"{path}: {reason}: delete it, and fetch the file itself")
    try:
        content: Any
        if start[8:9] == b"{" or path.suffix == ".safetensors":  # the length of a JSON, and it
            content = load_file(path)
        else:
            # Only the zip format of torch.save can be mapped into memory; old ones are pickles.
            # Training scripts save their options beside the weights: plain values.
            is_zip = start.startswith(b"PK\x03\x04")
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError:
        raise GenclassError(
            f"{path}: refused: the pickle is damaged, or holds more than weights and could run "
            f"code; get the file from a place you trust, or convert it to safetensors"
        ) from None
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise GenclassError(
            f"{path}: damaged checkpoint ({reason}): delete it and fetch it again"
        ) from None
    if not isinstance(content, Mapping) or not content:
        raise GenclassError(f"{path}: holds no state dict: is it the right file?")
    for found in (*(content.get(wrapper) for wrapper in _WRAPPERS), content):
        weights = _tensors(found)
        if weights:
            return weights
    raise GenclassError(f"{path}: holds no tensors: is it the right file?")


def _tensors(content: object) -> dict[str, Tensor]:
    """What of a part of a checkpoint can be weights."""
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def load_checkpoint(network: nn.Module, path: str | Path) -> None:
    """Fill a network with a checkpoint; every key and shape must fit.

    Raises:
        GenclassError: as `read_checkpoint`; or the first keys and shapes that do not fit.
    """
    weights = {_current_name(key): value for key, value in read_checkpoint(path).items()}
    expected = network.state_dict()
    differences = [f"lacks {key}" for key in expected if key not in weights]
    differences += [f"has an unknown {key}" for key in weights if key not in expected]
    for key in expected.keys() & weights.keys():
        want, have = tuple(expected[key].shape), tuple(weights[key].shape)
        if want != have and _long_sides(want) == _long_sides(have):
            weights[key] = weights[key].reshape(want)  # 1x1 convolutions stored as matrices
        elif want != have:
            differences.append(f"{key} is {list(have)}, expected {list(want)}")
    if differences:
        raise misfit(path, network, differences)
    network.load_state_dict(weights)


def misfit(path: str | Path, network: nn.Module, differences: list[str]) -> GenclassError:
    """The error of a file whose keys and shapes are not the network's, with the first of them."""
    more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
    return GenclassError(
        f"{path}: no checkpoint of this {type(network).__name__}: "
        f"{'; '.join(sorted(differences)[:3])}{more}: "
        f"correct the size in the config, or the file"
    )


def _current_name(key: str) -> str:
    if ".attentions." in key:
        for old, new in _RENAMED.items():
            key = key.replace(old, new)
    return key


def _long_sides(shape: tuple[int, ...]) -> list[int]:
    return [side for side in shape if side != 1]
