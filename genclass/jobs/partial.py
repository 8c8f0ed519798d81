"""The partial file: what a shard has scored so far; a killed job loses one image at most."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from filelock import FileLock, Timeout

from genclass.errors import GenclassError
from genclass.files import writing
from genclass.scores.score_file import not_finite
from genclass.scores.shards import Shard

_NUMBERS = struct.Struct("<Qd")  # a record's row and seconds; then its scores and a checksum
_MAGIC = b"genclass partial 1\n"
_SYNC_SECONDS = 10.0  # a killed process loses nothing; a machine that dies loses this much


class Partial:
    """An append-only file of one record an image, locked while a job works on it.

    Beside the declared outputs, which Snakemake deletes, and keyed by spec and ranges: it is
    `FOLDER/SPEC/SHARD.partial`. A record is the image's row in the shard, the seconds it took,
    its scores and a checksum; what was cut off in the middle is dropped and scored again.

    Two twins of a shard may run at once (a cluster that lost sight of the first): the second
    waits here, and finds the first one's work when it goes on or is gone.
    """

    def __init__(
        self, folder: str | Path, spec: str, shard: Shard, classes: int, racing: bool = False
    ) -> None:
        """
        racing: scores may be NaN, of who dropped out.

        Raises:
            GenclassError: its folder cannot be made.
        """
        self.path = Path(folder) / spec / f"{shard.name}.partial"
        self._head = _MAGIC + f"{spec} {shard.name} {classes}\n".encode()
        self._shape = (len(shard.trials), classes)
        self._images = len(shard.images)
        self._racing = racing
        self._record = _record(*self._shape)
        with writing(self.path):
            pass
        # Never a lock that is a file's mere existence: it would outlive a job that was killed.
        self._lock = FileLock(f"{self.path}.lock", poll_interval=1, fallback_to_soft=False)
        self._synced = time.monotonic()
        self.rows: dict[int, np.ndarray] = {}
        self.seconds = 0.0

    def __enter__(self) -> Partial:
        """Lock and read.

        Raises:
            GenclassError: the file was made by something else or holds what cannot be, the disk
                refuses, or its file system has no locks.
        """
        try:
            with writing(self.path):
                try:
                    self._lock.acquire(timeout=0)
                except Timeout:
                    print(
                        f"{self.path}: another job works on this shard: waiting for it", flush=True
                    )
                    self._lock.acquire()
                except OSError as error:
                    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                        raise NotImplementedError from None
                    raise
        except NotImplementedError:  # filelock's word for a file system without locks, too
            raise GenclassError(
                f"{self.path}: this file system has no file locks (Lustre: mounted without flock): "
                f"set `results:` in the config to a folder on one that has"
            ) from None
        try:
            with writing(self.path):
                self._file = self.path.open("r+b" if self.path.exists() else "w+b")
                content = self._file.read()
        except GenclassError:
            self._lock.release()
            raise
        if not self._head.startswith(content[: len(self._head)]):
            self._file.close()
            self._lock.release()
            raise GenclassError(
                f"{self.path}: the partial file of another evaluation: delete it and rerun"
            )
        size = self._record.size + 4
        position = len(self._head)
        if len(content) < position:
            with writing(self.path):
                self._file.seek(0)
                self._file.write(self._head)
                self._file.flush()
        while position + size <= len(content):
            record = content[position : position + size]
            if zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "little"):
                break
            row, seconds, scores = self._record.unpack(record[:-4])
            self.rows[row] = np.frombuffer(scores, dtype="<f4").reshape(self._shape)
            problem = not_finite(self.rows[row][None], self._racing)
            if problem or row >= self._images:
                self._file.close()
                self._lock.release()
                problem = f"row {row}: {problem}" if problem else f"row {row} is not of this shard"
                raise GenclassError(f"{self.path}: {problem}: delete it and rerun")
            self.seconds += seconds
            position += size
        self._file.truncate(position)
        self._file.seek(position)
        return self

    def add(self, row: int, scores: np.ndarray, seconds: float) -> None:
        """Commit one image: its row in the shard, float32 [trials, classes], its seconds.

        Raises:
            GenclassError: the disk is full.
        """
        record = self._record.pack(row, seconds, np.ascontiguousarray(scores, "<f4").tobytes())
        with writing(self.path):
            self._file.write(record + zlib.crc32(record).to_bytes(4, "little"))
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        self.rows[row] = scores
        self.seconds += seconds

    def scores(self) -> np.ndarray:
        """float32 [images, trials, classes], once every image is there."""
        return np.stack([self.rows[row] for row in range(self._images)])

    def remove(self) -> None:
        """The score file is written: nothing here is needed any more."""
        self.path.unlink(missing_ok=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._file.close()  # of a full disk, it says so once more
        except OSError:
            if error is None:
                raise
        # The lock's own file goes only with the partial file, or a waiting twin would hold the
        # lock of a file that is no longer there.
        self._lock.release()


def peek(path: Path) -> tuple[int, float]:
    """How many images a partial file holds, and the seconds they took; its job may be at work."""
    try:
        with path.open("rb") as file:
            if file.readline() != _MAGIC:
                return 0, 0.0
            _, shard, classes = file.readline().decode().split()
            size = _record(len(Shard.from_name(shard).trials), int(classes)).size + 4
            start = file.tell()
            images = (path.stat().st_size - start) // size
            seconds = 0.0
            for index in range(images):
                file.seek(start + index * size)
                seconds += _NUMBERS.unpack(file.read(_NUMBERS.size))[1]
            return images, seconds
    except (OSError, ValueError, struct.error, GenclassError):
        return 0, 0.0


def is_worked_on(path: Path) -> bool:
    """Does a living job hold this partial file? Looks at its lock without taking it."""
    try:
        with Path(f"{path}.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _record(trials: int, classes: int) -> struct.Struct:
    return struct.Struct(f"{_NUMBERS.format}{4 * trials * classes}s")
