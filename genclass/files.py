"""Files that are whole or not there, locks, digests, and one line for what a disk refuses."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from genclass.errors import GenclassError

T = TypeVar("T")

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


# What the operating system refuses, in one line


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is written inside.

    Raises:
        GenclassError: one line in place of any OSError; it blames `path` only for what `path`, its
            temporary files or its folders refused, and otherwise the file that the error names.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise GenclassError(
                f"{path}: {full(path.parent, error.errno)}: free some and rerun"
            ) from None
        culprit = error.filename2 or error.filename
        if culprit is not None and not _belongs_to(path, Path(os.fsdecode(culprit))):
            raise GenclassError(f"{culprit}: cannot be read: {reason_of(error)}") from None
        reason = reason_of(error) + (f": {culprit}" if culprit is not None else "")
        raise GenclassError(f"{path}: cannot be written: {reason}") from None


@contextmanager
def reading(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    """Read `path`, which is a `what`, inside.

    Raises:
        GenclassError: `PATH: the WHAT is missing: REMEDY`, or why it cannot be read, in place of
            any OSError.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise GenclassError(f"{path}: the {what} is missing: {remedy}") from None
    except OSError as error:
        raise GenclassError(f"{path}: cannot read the {what}: {reason_of(error)}") from None


@contextmanager
def disk_errors(doing: str, where: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line that begins with `doing`.

    Raises:
        GenclassError: in place of any OSError raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(doing, where, number=error.errno) from error
        culprit = where if error.filename is None else error.filename
        raise GenclassError(f"{doing}: {culprit}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """What the operating system says, and what to do about it where that is always the same."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{reason} (check its owner and mode: ls -ld)"
    if error.errno == errno.ENAMETOOLONG:
        return f"{reason} (the file system takes 255 bytes a name)"
    return reason


def full(folder: Path, number: int | None = errno.ENOSPC) -> str:
    """What `folder` lacks where the system says that nothing is left: space, inodes or quota."""
    if number == errno.EDQUOT:
        return f"the quota of {folder} is used up"
    with suppress(OSError):
        found = os.statvfs(folder)
        if found.f_files and not found.f_favail and found.f_bavail:
            return f"no inodes left in {folder} (too many files; df -i)"
    return f"no space left in {folder}"


def no_space(
    doing: str, folder: Path, missing: int = 0, number: int | None = errno.ENOSPC
) -> GenclassError:
    """The error of a full disk, which lacks `missing` bytes if that is known."""
    amount = f" ({missing} more bytes are needed)" if missing else ""
    return GenclassError(
        f"{doing}: {full(folder, number)}{amount}: free some there and rerun, it continues"
    )


def require_space(doing: str, folder: Path, needed: int) -> None:
    """Raises GenclassError if `folder` cannot take `needed` more bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise no_space(doing, folder, needed - free)


def _belongs_to(path: Path, culprit: Path) -> bool:
    """Is it `path`, a temporary file of it, or a folder above?"""
    if culprit == path or culprit in path.parents:
        return True
    return culprit.parent == path.parent and culprit.name.startswith(f".{path.name}.")


# Files that are whole or not there


def check_writable(path: Path) -> None:
    """Say before a long computation, not after it, that its result could not be written.

    Raises:
        GenclassError: its folder cannot be made, or takes no file.
    """
    with writing(path):
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success it is fsynced and renamed to `path`.

    A reader sees the old file or the whole new one, whatever happens in between. What killed
    processes left of earlier attempts at the same `path` is removed. The umask decides who may
    read it. A device or pipe is written as it is.

    Raises:
        GenclassError: the disk is full or the file cannot be written.
    """
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as file:
                yield file
            return
        _sweep(path)
        temporary, handle = _temporary(path)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)  # while it is locked: unlocked, it would be swept
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, open and locked for as long as its process lives."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            if _locked(handle) in (True, None) and os.fstat(handle).st_nlink:
                return temporary, handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # another process took it for a dead one's, in the moment before the lock


def _sweep(path: Path) -> None:
    """Remove temporaries of `path` that no process holds, as far as locks tell."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        left = [
            entry.path
            for entry in entries
            if entry.name.startswith(prefix)
            and entry.name.endswith(".tmp")
            and len(entry.name) == len(prefix) + 12
        ]
    for temporary in left:
        with suppress(OSError):
            handle = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _locked(handle):
                    Path(temporary).unlink(missing_ok=True)
            finally:
                os.close(handle)


def _locked(handle: int) -> bool | None:
    """Lock an open file; False: another process holds it, None: the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a whole file or nothing; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, text: str) -> None:
    """`write_atomically`, unless it stands there already: its time is kept."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write the same bytes for the same value, whole or not at all; see `atomic_file`."""

    def text(ascii: bool) -> str:
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=ascii) + "\n"

    try:
        content = text(ascii=False).encode()
    except UnicodeEncodeError:  # a path that is not UTF-8: escaped, it is read back as it was
        content = text(ascii=True).encode()
    write_atomically(path, content)


def read_json(path: str | Path, kind: type[T], what: str, remedy: str) -> T:
    """What `write_json` wrote, as a `kind`: a dataclass, a pydantic model, a `dict[str, ...]`.

    Types and keys fit strictly; a `kind` forbids unknown keys in its own pydantic config.

    Raises:
        GenclassError: `PATH: the WHAT is missing: REMEDY` or `PATH is no WHAT (why): REMEDY`.
    """
    from pydantic import TypeAdapter, ValidationError  # takes its time; needed here only

    with reading(path, what, remedy.removeprefix("delete it and ")):
        content = Path(path).read_bytes()
    try:
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise GenclassError(f"{path} is no {what} ({reason}): {remedy}") from None


# Digests and locks


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(path: Path, *, md5: bool) -> tuple[str, str]:
    """The sha256 of a file and, if asked for, its md5 (else ""), in one pass."""
    first, second = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            first.update(chunk)
            if md5:
                second.update(chunk)
    return first.hexdigest(), second.hexdigest() if md5 else ""


@contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the one process that writes `path`; wait, and say so, while another does.

    The lock dies with its process, so a kill leaves nothing to clean up.

    Raises:
        GenclassError: the file system has no locks.
    """
    from filelock import FileLock, Timeout  # takes its time; needed here only

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{path}: another run is writing it; waiting for that one")
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # filelock's word for ENOSYS is the second
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise GenclassError(
            f"{path.parent}: its file system takes no file locks ({error}), which keep two runs "
            "from writing one file: move this folder to another disk, or have locks switched on "
            "(NFS: lockd; Lustre: mount -o flock)"
        ) from None
    try:
        yield
    finally:
        lock.release()
