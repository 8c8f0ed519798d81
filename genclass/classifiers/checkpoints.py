"""Checkpoints: read without running their code, and checked against the network."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genclass.errors import GenclassError

_WRAPPERS = ("ema", "model", "state_dict")  # where released files put the weights

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
        raise GenclassError(f"{path}: the checkpoint is missing: rerun the workflow to fetch it")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            # Training scripts save their options beside the weights: plain values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(
                    path, map_location="cpu", weights_only=True, mmap=_is_zip(path)
                )
    except pickle.UnpicklingError:
        raise GenclassError(
            f"{path}: refused: the pickle holds more than weights and could run code; "
            f"get the file from a place you trust, or convert it to safetensors"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GenclassError(f"{path}: damaged checkpoint ({reason}): delete it and rerun") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise GenclassError(f"{path}: holds no state dict: is it the right file?")
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise GenclassError(f"{path}: holds no tensors: is it the right file?")
    return weights


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
        if want != have and weights[key].numel() == expected[key].numel():
            weights[key] = weights[key].reshape(want)  # 1x1 convolutions stored as matrices
        elif want != have:
            differences.append(f"{key} is {list(have)}, expected {list(want)}")
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise GenclassError(
            f"{path}: no checkpoint of this {type(network).__name__}: "
            f"{'; '.join(sorted(differences)[:3])}{more}: "
            f"correct the size in the config, or the file"
        )
    network.load_state_dict(weights)


def _current_name(key: str) -> str:
    if ".attentions." in key:
        for old, new in _RENAMED.items():
            key = key.replace(old, new)
    return key


def _is_zip(path: Path) -> bool:
    """Only the zip format of torch.save can be mapped into memory; old files are plain pickles."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
