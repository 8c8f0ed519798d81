"""File operations that all sources share: digests, atomic writes, locks, one-line disk errors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genclass.errors import GenclassError

_CHUNK = 1 << 20


def digests(path: Path, *, md5: bool) -> tuple[str, str]:
    """The sha256 of a file and, if asked for, its md5 (else ""), in one pass."""
    first, second = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            first.update(chunk)
            if md5:
                second.update(chunk)
    return first.hexdigest(), second.hexdigest() if md5 else ""


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write the same bytes for the same value; readers see the old file or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, sort_keys=True, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(doing: str, where: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line.

    Raises:
        GenclassError: in place of any OSError raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(doing, where) from error
        reason = error.strerror or str(error)
        raise GenclassError(f"{doing}: {error.filename or where}: {reason}") from error


def no_space(doing: str, folder: Path, missing: int = 0) -> GenclassError:
    """The error of a full disk, which lacks `missing` bytes if that is known."""
    amount = f" ({missing} more bytes are needed)" if missing else ""
    return GenclassError(
        f"{doing}: no space left in {folder}{amount}: free some there and rerun, it continues"
    )


def require_space(doing: str, folder: Path, needed: int) -> None:
    """Raises GenclassError if `folder` cannot take `needed` more bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise no_space(doing, folder, needed - free)


@contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the one process that writes `path`; wait, and say so, while another does.

    The lock dies with its process, so a kill leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{path}: another run is writing it; waiting for that one")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
