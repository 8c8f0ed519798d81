"""Files that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from genclass.errors import GenclassError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is written inside.

    Raises:
        GenclassError: one line in place of any OSError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GenclassError(f"{path}: the disk is full: free space and rerun") from None
        culprit = error.filename2 or error.filename
        reason = (error.strerror or str(error)) + (f": {culprit}" if culprit else "")
        raise GenclassError(f"{path}: cannot be written: {reason}") from None


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

    A reader sees the old file or the whole new one, whatever happens in between.

    Raises:
        GenclassError: the disk is full or the file cannot be written.
    """
    path = Path(path)
    with writing(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a whole file or nothing; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
