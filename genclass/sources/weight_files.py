"""What a file or folder is that is said to hold weights; without torch."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import reading, sha256_of
from genclass.sources.wrong_files import some

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
# What training scripts leave beside the weights.
_BESIDE = re.compile(
    r"(optimizer|optim|scheduler|scaler|training_args|rng_state|random_states|custom_checkpoint)"
    r".*|.*optim_states\.pt|.*zero_pp_rank_.*"
)
_FOREIGN = {
    b"\x1f\x8b": ("compressed with gzip", "unpack it (gunzip FILE)"),
    b"BZh": ("compressed with bzip2", "unpack it (bunzip2 FILE)"),
    b"\xfd7zXZ\0": ("compressed with xz", "unpack it (unxz FILE)"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it (unzstd FILE)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
    b"\x93NUMPY": ("one NumPy array", "save a state dict of torch or safetensors instead"),
    b"\x89HDF\r\n\x1a\n": (
        "an HDF5 file, as Keras writes it",
        "convert it to a state dict of torch or safetensors",
    ),
    b"GGUF": ("a GGUF file of quantised weights", "get the floating-point checkpoint"),
}


def foreign(path: Path) -> tuple[str, str] | None:
    """What a file is that is no file of torch.save or safetensors, and what to do; or None.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    for beginning, found in _FOREIGN.items():
        if start.startswith(beginning):
            return found
    if start.startswith(b"PK\x03\x04"):
        return _foreign_zip(path)
    if start.lstrip().startswith((b"{", b"[")):
        return "a JSON file, not weights", "name the file of weights"
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            members = [member.name for _, member in zip(range(99), tar, strict=False)]
        if "storages" not in members:  # torch.save wrote tars in 2016
            return f"a tar archive{_holding(members)}", "unpack it, and name the file of weights"
    return None


def _foreign_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # cut off: torch says so
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript program, not weights",
            "save what it holds: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return (
            "NumPy arrays (npz), not a state dict",
            "convert it: safetensors.numpy.save_file(dict(numpy.load(FILE)), NEW)",
        )
    return f"a zip archive{_holding(names)}", "unpack it, and name the file of weights"


def _holding(names: Sequence[str]) -> str:
    weights = [name for name in names if name.lower().endswith(SUFFIXES)]
    return f" (with {some(weights)} in it)" if weights else ""


def checkpoint_file(path: Path) -> Path:
    """The file to read: `path` itself, or in a folder its index of shards or its one file.

    Raises:
        GenclassError: `path` is missing, or a folder with no file of weights or several.
    """
    if not path.is_dir():
        return path
    with reading(path, "checkpoint's folder", "bring it back: genclass fetch"):
        if (path / ".metadata").exists() and any(path.glob("*.distcp")):
            raise GenclassError(
                f"{path}: a folder of torch.distributed: make one file of it: "
                f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} NEW.pt"
            )
        for pattern in ("*.safetensors.index.json", "*.bin.index.json"):
            if indexes := sorted(path.glob(pattern)):
                return _the_one(path, indexes)
        files = [p for p in sorted(path.iterdir()) if _is_weights(p)]
        files = files or [p for p in sorted(path.rglob("*")) if _is_weights(p)]
    safe = [file for file in files if file.suffix == ".safetensors"]
    return _the_one(path, safe if len(safe) == 1 else files)


def _is_weights(path: Path) -> bool:
    name = path.name
    return name.endswith(SUFFIXES) and not name.startswith(".") and not _BESIDE.fullmatch(name)


def _the_one(folder: Path, files: Sequence[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    if not files:
        there = some([p.name for p in sorted(folder.iterdir())]) or "nothing"
        raise GenclassError(
            f"{folder}: a folder without a file of weights ({', '.join(SUFFIXES)}), with {there}: "
            "name the file"
        )
    names = some([file.relative_to(folder).as_posix() for file in files])
    raise GenclassError(
        f"{folder}: a folder with {len(files)} files of weights ({names}): name the one that is "
        f"meant, such as {files[0]}"
    )


def shards_of(index: Path) -> dict[str, list[str]]:
    """The keys that each shard beside an index (`*.index.json`) holds, by its name.

    Raises:
        GenclassError: it is missing or damaged, or shards are.
    """
    with reading(index, "index of shards", "bring it back: genclass fetch"):
        text = index.read_bytes()
    try:
        given = json.loads(text)["weight_map"]
        shards: dict[str, list[str]] = {}
        for key, name in given.items():
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"the shard {name!r}")
            shards.setdefault(name, []).append(key)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GenclassError(f"{index}: no index of shards ({error}): fetch it again") from None
    if missing := [name for name in sorted(shards) if not (index.parent / name).is_file()]:
        raise GenclassError(
            f"{index}: an index of {len(shards)} shards, of which {some(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not beside it: download the whole folder "
            "(hf download OWNER/NAME --local-dir FOLDER) and name file:FOLDER"
        )
    return dict(sorted(shards.items()))


def why_no_settings(path: Path) -> str | None:
    """Why a file cannot be a network's settings, a JSON object of them; or None."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "not JSON, as a network's settings are"
    return None if isinstance(content, dict) else "a JSON file, but no object of settings"


def is_index(path: Path) -> bool:
    """Is it the index of a checkpoint in shards, by its name or its content?"""
    if path.name.endswith(".index.json"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
        return start.lstrip().startswith(b"{") and b'"weight_map"' in start
    except OSError:
        return False


def checkpoint_files(path: Path) -> list[Path]:
    """All files of a checkpoint: one, or an index and its shards.

    Raises:
        GenclassError: as `checkpoint_file` and `shards_of`.
    """
    file = checkpoint_file(path)
    return [file, *(file.parent / name for name in shards_of(file))] if is_index(file) else [file]


def checkpoint_sha256(path: str | Path) -> str:
    """The sha256 of a checkpoint's file; of several, that of the sorted lines `SHA256  NAME`.

    Raises:
        GenclassError: as `checkpoint_file` and `shards_of`.
        OSError: a file cannot be read.
    """
    files = checkpoint_files(Path(path))
    if len(files) == 1:
        return sha256_of(files[0])
    lines = sorted(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
