"""Checkpoints: read without running their code, checked, and fitted into the network."""

from __future__ import annotations

import argparse
import errno
import pathlib
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genclass.errors import GenclassError
from genclass.files import reading, reason_of
from genclass.sources.weight_files import checkpoint_file, foreign, is_index, shards_of
from genclass.sources.wrong_files import mistaken, some

Weights = Literal["averaged", "plain"]

_DAMAGE = (
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)  # what reading a file that was cut off or made up may raise

# Words in the key of a part of a checkpoint: "model_ema_state_dict" is averaged.
_AVERAGED = {"ema", "emas", "averaged", "average", "avg", "shadow", "swa", "polyak"}
_NOT_THE_NETWORK = {
    "optimizer", "optimizers", "optim", "opt", "scheduler", "schedulers", "sched", "scaler", "amp",
    "discriminator", "disc", "loss", "losses", "rng", "args", "config", "cfg", "hparams", "hyper",
    "callbacks", "loops",
}  # fmt: skip
_USUAL = (  # keys of the plain weights, the likeliest first; "": the file itself is a state dict
    "model", "state_dict", "module", "model_state_dict", "net", "network", "weights", "params",
    "generator", "",
)  # fmt: skip
_BOOKKEEPING = {"n_averaged", "num_updates", "n_updates", "decay", "initted", "step", "epoch"}

# What wraps a network while it is trained: before all keys, and in between.
_PREFIXES = (
    "module.", "model.", "net.", "network.", "online_model.", "ema_model.", "_forward_module.",
)  # fmt: skip
_INNER = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

# Names of the autoencoder's attention in files written before diffusers renamed them.
_RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


class _Callback:
    """What a class of the trainer's becomes when it is read."""


# Lightning, of the time of Taming Transformers, saved the state of callbacks by their classes.
_CALLBACKS = [
    (_Callback, f"pytorch_lightning.callbacks.{name}")
    for name in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_checkpoint(
    paths: str | Path | Sequence[str | Path],
    weights: Weights = "averaged",
    say: Callable[[str], None] = _say,
) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU; what was taken of the file goes to `say`.

    A file is a `.safetensors`, what torch.save wrote, or an index of shards (`*.index.json`); a
    folder with one of them stands for it. The weights may lie anywhere inside, under the names of
    trainers, and their keys may begin with the names of wrappers (`module.`, `_orig_mod.`), which
    are removed. Floats narrower than 32 bits become float32.

    Args:
        paths: one checkpoint, or several that hold different parts of one network.
        weights: which of the weights that stand beside each other. `averaged` (an EMA or SWA of
            them) takes the plain ones where a file has no others.

    Raises:
        GenclassError: a file is missing, damaged, of another kind, or a pickle that would run
            code; it holds no state dict, or several; weights are NaN or infinite, complex or
            quantised; two files hold the same key.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    merged: dict[str, Tensor] = {}
    for path in several:
        part = _read(Path(path), weights, say)
        if twice := sorted(merged.keys() & part.keys()):
            raise GenclassError(
                f"{path}: holds {some(twice)}, which an earlier one of {_names(paths)} holds, too: "
                "name each part of the network once"
            )
        merged |= part
    return merged


def why_no_checkpoint(path: Path) -> str | None:
    """Why `read_checkpoint` would refuse a file or folder, averaged or plain; or None.

    Without the path, and without the remedy where that is another file. It reads all weights, at
    the speed of the disk.
    """
    reasons = []
    weights: Weights
    for weights in ("averaged", "plain"):
        try:
            _taken(path, weights)
            return None
        except _Refused as refused:
            another = refused.remedy.startswith(("delete it", "is it the right"))
            reasons.append(str(refused) if another else f"{refused}: {refused.remedy}")
        except GenclassError as error:
            reasons.append(str(error).removeprefix(f"{path}: "))
    return reasons[0]


def load_checkpoint(
    network: nn.Module,
    paths: str | Path | Sequence[str | Path],
    weights: Weights = "averaged",
    say: Callable[[str], None] = _say,
) -> None:
    """Fill a network with a checkpoint; every key, shape and kind of number must fit.

    Raises:
        GenclassError: as `read_checkpoint` and `fill`.
    """
    fill(network, read_checkpoint(paths, weights, say), _names(paths))


def fill(network: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Fill a network with weights; floats are converted to its own, of any width.

    Args:
        origin: of the weights; messages begin with it.

    Raises:
        GenclassError: the first keys, shapes or kinds of numbers that do not fit.
    """
    expected = network.state_dict()
    given = {_current_name(key): value for key, value in weights.items()}
    # A network whose own names begin like a wrapper's lost them when its checkpoint was read.
    for prefix in _PREFIXES:
        if _all_begin(expected, prefix) and not any(key.startswith(prefix) for key in given):
            given = {prefix + key: value for key, value in given.items()}
    differences = [f"lacks {key}" for key in expected if key not in given]
    differences += [f"has an unknown {key}" for key in given if key not in expected]
    kinds = []
    for key in expected.keys() & given.keys():
        want, have = tuple(expected[key].shape), tuple(given[key].shape)
        if want != have and _long_sides(want) == _long_sides(have):
            given[key] = given[key].reshape(want)  # 1x1 convolutions stored as matrices
        elif want != have:
            differences.append(f"{key} is {list(have)}, expected {list(want)}")
        if _kind(given[key].dtype) != _kind(expected[key].dtype):
            kinds.append(
                f"{key} is {_short(given[key].dtype)}, expected {_short(expected[key].dtype)}"
            )
    if differences:
        raise misfit(origin, network, differences)
    if kinds:
        more = f"; and {len(kinds) - 1} more" if len(kinds) > 1 else ""
        raise GenclassError(f"{origin}: {min(kinds)}{more}: {_GET_FLOATS}")
    network.load_state_dict(given)


def misfit(origin: str | Path, network: nn.Module, differences: list[str]) -> GenclassError:
    """The error of weights whose keys and shapes are not the network's, with the first of them."""
    more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
    return GenclassError(
        f"{origin}: no checkpoint of this {type(network).__name__}: "
        f"{'; '.join(sorted(differences)[:3])}{more}: "
        f"correct the size in the config, or the file"
    )


_GET_FLOATS = (
    "weights of another kind are not converted: get the checkpoint in float32, float16 or bfloat16"
)


# From a path to what stands in the file


class _Refused(Exception):
    """Why a file is no checkpoint, and in `remedy` what to do."""

    def __init__(self, reason: str, remedy: str = "is it the right file?") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class _Taken:
    """The weights that were chosen, and which they are."""

    tensors: dict[str, Tensor]
    notes: list[str]


def _read(path: Path, weights: Weights, say: Callable[[str], None]) -> dict[str, Tensor]:
    try:
        taken = _taken(path, weights)
    except _Refused as refused:
        raise GenclassError(f"{path}: {refused}: {refused.remedy}") from None
    say(", ".join([f"{path}: {len(taken.tensors)} tensors", *taken.notes]))
    return taken.tensors


def _taken(path: Path, weights: Weights) -> _Taken:
    file = checkpoint_file(path)
    content: Mapping[Any, Any]
    if not is_index(file):
        content = _content(file)
    else:
        content = {}
        for name, keys in shards_of(file).items():
            try:
                shard = _content(file.parent / name)
            except _Refused as refused:
                raise _Refused(f"its shard {name}: {refused}", refused.remedy) from None
            if missing := [key for key in keys if key not in shard]:
                raise _Refused(f"its shard {name} lacks {some(missing)}", "fetch it again")
            content |= shard
    taken = _chosen(content, weights)
    if file != path:
        taken.notes.insert(0, f"of {file.name}")
    tensors, removed = _unwrapped(taken.tensors)
    taken.notes.extend(f"without the prefix '{prefix}' of its keys" for prefix in removed)
    return _Taken(_sound(tensors), taken.notes)


def _content(path: Path) -> Mapping[Any, Any]:
    """What stands in one file, without running its code."""
    again = "delete it, and fetch the file itself"
    with reading(path, "checkpoint", "bring it back: genclass fetch"), path.open("rb") as file:
        start = file.read(64)
    is_safe = start[8:9] == b"{" or path.suffix == ".safetensors"  # a length, and then JSON
    try:
        if reason := mistaken(path):
            raise _Refused(reason, again)
        if not is_safe and (found := foreign(path)):
            raise _Refused(*found)
        if is_safe:
            content: Any = load_file(path)
        else:
            # Only the zip format of torch.save can be mapped into memory; old ones are pickles.
            is_zip = start.startswith(b"PK\x03\x04")
            # Training scripts save their options beside the weights: plain values.
            known: list[Any] = [argparse.Namespace, pathlib.PosixPath, *_CALLBACKS]
            with torch.serialization.safe_globals(known):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+) was not", str(error))
        more = f" ({named[1]})" if named else ""
        raise _Refused(
            f"refused: the pickle is damaged, or holds more than weights{more} and could run code",
            "get the file from a place you trust, or convert it to safetensors",
        ) from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EIO, errno.ENOMEM):
            raise _Refused(f"cannot be read ({reason_of(error)})", "see to the disk") from None
        # torch goes on for a paragraph
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise _Refused(f"damaged checkpoint ({reason})", "delete it and fetch it again") from None
    if not isinstance(content, Mapping) or not content:
        raise _Refused("holds no state dict")
    return content


# Which of the weights in it


@dataclass(frozen=True)
class _Found:
    """Tensors at one place of a checkpoint."""

    keys: tuple[str, ...]  # the way to them; (): the file itself is a state dict
    averaged: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)
    unnamed: list[Tensor] = field(default_factory=list)  # in the order of the network's parameters

    @property
    def name(self) -> str:
        return f"'{'.'.join(self.keys)}'" if self.keys else "at the top level"

    @property
    def key(self) -> str:
        return self.keys[-1] if self.keys else ""


def _chosen(content: Mapping[Any, Any], weights: Weights) -> _Taken:
    found = list(_search(content, (), averaged=False))
    if not found:
        raise _Refused("holds no tensors")
    plain = _likeliest([f for f in found if not f.averaged], _USUAL)
    averaged = _likeliest([f for f in found if f.averaged], ("ema",))
    if split := _split(averaged or plain):
        averaged, plain = [split[0]], plain if averaged else [split[1]]
    names = {True: some([f.name for f in averaged]), False: some([f.name for f in plain])}
    wanted = weights == "averaged" and bool(averaged)
    chosen = averaged if wanted else plain
    if not chosen:
        raise _Refused(
            f"holds averaged weights only ({names[True]})",
            "remove `weights: plain` from the model's section",
        )
    if len(chosen) > 1:
        raise _Refused(
            f"holds several state dicts ({names[wanted]})", "save the right one as its own file"
        )
    one = _named(chosen[0], plain) if chosen[0].unnamed else chosen[0]
    others = averaged if not wanted else plain
    kinds = ("averaged", "plain") if wanted else ("plain", "averaged")
    beside = f" ({kinds[1]} ones are there, too: {names[not wanted]})" if others else ""
    note = f"{kinds[0]} weights {names[wanted]}{beside}" if one.keys or others else ""
    return _Taken(one.tensors, [note] if note else [])


def _search(content: Mapping[Any, Any], keys: tuple[str, ...], averaged: bool) -> Iterator[_Found]:
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield _Found(keys, averaged, tensors)
    for key, value in content.items():
        if not isinstance(key, str) or len(keys) == 3 or _words(key) & _NOT_THE_NETWORK:
            continue
        is_averaged = averaged or bool(_words(key) & _AVERAGED)
        if isinstance(value, Mapping):
            yield from _search(value, (*keys, key), is_averaged)
        elif is_averaged and (unnamed := _list_of_tensors(value)):
            yield _Found((*keys, key), True, unnamed=unnamed)


def _list_of_tensors(value: object) -> list[Tensor]:
    if not isinstance(value, list | tuple):
        return []
    tensors = [item for item in value if isinstance(item, Tensor)]
    return tensors if len(tensors) == len(value) else []


def _words(key: str) -> set[str]:
    """`modelEMA.state_dict` is made of model, ema, state and dict."""
    return set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()))


def _likeliest(found: Sequence[_Found], usual: Sequence[str]) -> list[_Found]:
    """Those under the first of the usual keys, or all; of these the outermost."""
    for key in usual:
        if named := [f for f in found if f.key == key]:
            found = named
            break
    return [f for f in found if len(f.keys) == min(len(f.keys) for f in found)]


def _named(averaged: _Found, plain: Sequence[_Found]) -> _Found:
    """An EMA object's list, under the names of the plain weights if those are as many."""
    beside = plain[0].tensors if len(plain) == 1 else {}
    shapes = [tensor.shape for tensor in beside.values()]
    if shapes != [tensor.shape for tensor in averaged.unnamed]:
        raise _Refused(
            f"its averaged weights {averaged.name} are a list without names, "
            f"{len(averaged.unnamed)} of them, which the {len(shapes)} plain ones do not give",
            "set `weights: plain`, or save the averaged ones as a state dict",
        )
    return _Found(averaged.keys, True, dict(zip(beside, averaged.unnamed, strict=True)))


def _split(candidates: Sequence[_Found]) -> tuple[_Found, _Found] | None:
    """Averaged and plain weights of one state dict that holds both.

    LitEma of latent-diffusion puts `model_ema.NAME`, without the dots of NAME, beside `model.NAME`;
    ema_pytorch puts `ema_model.NAME` beside `online_model.NAME`. What has no average stays.
    """
    if len(candidates) != 1:
        return None
    found = candidates[0]
    heads = {key.partition(".")[0] for key in found.tensors if "." in key}
    averaged_heads = [head for head in heads if _words(head) & _AVERAGED]
    if len(averaged_heads) != 1 or len(heads) == 1:
        return None
    head = f"{averaged_heads[0]}."
    plain = {key: value for key, value in found.tensors.items() if not key.startswith(head)}
    by_name = {key.replace(".", ""): key for key in plain}
    by_name |= {key.partition(".")[2].replace(".", ""): key for key in plain if "." in key}
    averaged = dict(plain)
    for key, value in found.tensors.items():
        name = key.removeprefix(head)
        if name == key or (name in _BOOKKEEPING and value.numel() == 1):
            continue
        other = by_name.get(name.replace(".", ""))
        if other is None or plain[other].shape != value.shape:
            return None  # a part of the network that is called so
        averaged[other] = value
    keys = (*found.keys, averaged_heads[0])
    return _Found(keys, True, averaged), _Found(found.keys, False, plain)


def _unwrapped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the names of wrappers in the keys, and which they were."""
    removed = sorted({f"{match[1]}." for key in tensors for match in _INNER.finditer(key)})
    tensors = {_INNER.sub("", key): value for key, value in tensors.items()}
    counted = {k: v for k, v in tensors.items() if not (k in _BOOKKEEPING and v.numel() == 1)}
    while prefix := next((p for p in _PREFIXES if _all_begin(counted, p)), None):
        counted = {key.removeprefix(prefix): value for key, value in counted.items()}
        removed.append(prefix)
    return counted if removed else dict(tensors), removed


def _all_begin(keys: Collection[str], prefix: str) -> bool:
    return bool(keys) and all(key.startswith(prefix) and key != prefix for key in keys)


# Whether they are weights


def _sound(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floats of at least 32 bits, and what else buffers hold; refused if it cannot be right."""
    sound = {}
    for key, tensor in tensors.items():
        kind = _kind(tensor.dtype)
        if tensor.is_quantized or tensor.layout != torch.strided or kind in ("complex", "packed"):
            layout = "sparse " if tensor.layout != torch.strided else ""
            raise _Refused(f"{key} is {layout}{_short(tensor.dtype)}", _GET_FLOATS)
        if kind == "float":
            tensor = tensor.float() if tensor.dtype.itemsize < 4 else tensor
            if tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
                _refuse_not_finite(key, tensor)
        sound[key] = tensor
    if not any(tensor.is_floating_point() for tensor in sound.values()):
        kinds = some(sorted({_short(tensor.dtype) for tensor in sound.values()}))
        raise _Refused(f"its weights are {kinds}, none is a float", _GET_FLOATS)
    return sound


def _refuse_not_finite(key: str, tensor: Tensor) -> None:
    finite = tensor.isfinite()
    # VAR's file holds its mask of attention: 0 where it may look, minus infinity elsewhere.
    if bool((tensor == -torch.inf)[~finite].all()) and not bool(tensor[finite].any()):
        return
    bad = tensor.numel() - int(finite.sum())
    raise _Refused(
        f"{key} holds NaN or infinity ({bad} of {tensor.numel()} values)",
        "the weights are damaged: get another copy",
    )


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "packed" if _short(dtype).startswith("float4") else "float"
    if dtype == torch.bool:
        return "bool"
    return "integer" if re.fullmatch(r"u?int(8|16|32|64)", _short(dtype)) else "packed"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _names(paths: str | Path | Sequence[str | Path]) -> str:
    return str(paths) if isinstance(paths, str | Path) else ", ".join(map(str, paths))


def _current_name(key: str) -> str:
    if ".attentions." in key:
        for old, new in _RENAMED.items():
            key = key.replace(old, new)
    return key


def _long_sides(shape: tuple[int, ...]) -> list[int]:
    return [side for side in shape if side != 1]
