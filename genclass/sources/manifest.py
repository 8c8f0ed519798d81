"""The small JSON by which a file from outside enters the workflow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from genclass.files import disk_errors, read_json, write_json

Kind = Literal["file", "folder", "archive"]


@dataclass(frozen=True)
class Manifest:
    """What a source is, where it lies, where it came from, and how to recognise it.

    Deterministic: fetching an unchanged source again gives the same bytes of JSON. The sha256 of a
    folder is over the sorted names and sizes of its files; what is in them is held by the image
    list. Names that start with a dot do not count.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    kind: Kind
    path: str  # of the file or folder; of an archive, the folder that it was unpacked into
    place: str
    bytes: Annotated[int, Field(ge=0)]
    files: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str

    def write(self, path: Path) -> None:
        """Write it atomically; raises GenclassError if the disk refuses."""
        with disk_errors(f"{self.name}: cannot write the manifest", path):
            write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what `write` wrote; raises GenclassError if that is not what the file holds."""
        return read_json(path, cls, "manifest", "delete it and rerun: it is fetched again")


def folder_manifest(name: str, path: Path, place: str, licence: str) -> Manifest:
    """The manifest of a folder of the user's, however many files it holds.

    Raises:
        GenclassError: the folder is missing or unreadable.
    """
    with disk_errors(f"{name}: cannot read the folder", path):
        sizes = sorted(_sizes(path))
    digest = hashlib.sha256()
    for file, size in sizes:
        digest.update(f"{file}\0{size}\n".encode(errors="surrogateescape"))
    total = sum(size for _, size in sizes)
    return Manifest(
        name, "folder", str(path), place, total, len(sizes), digest.hexdigest(), licence
    )


def _sizes(root: Path) -> Iterator[tuple[str, int]]:
    """Relative name and size of every file; linked folders are followed, each of them once."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(root).as_posix(), file.stat().st_size
