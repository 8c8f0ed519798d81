"""The image list: which images of a dataset are evaluated, in which order, under which label."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.text import digest

_COLUMNS = ["image_id", "path", "class_id", "sha256"]
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageRow:
    image_id: str  # what the image's randomness depends on: the same wherever the dataset lies
    path: str  # POSIX, inside the dataset's folder
    class_id: int  # the label
    sha256: str  # of the file's bytes


@dataclass(frozen=True)
class ImageList:
    """The images of a dataset, in the order that shards count them in.

    Raises:
        GenclassError: two images have one id.
    """

    rows: tuple[ImageRow, ...]

    def __post_init__(self) -> None:
        for image_id, count in Counter(row.image_id for row in self.rows).most_common(1):
            if count > 1:
                raise GenclassError(f"{count} images are called {image_id}: keep one")

    def __len__(self) -> int:
        return len(self.rows)

    def ordered(self, seed: int) -> ImageList:
        """In a random order: by sha256(seed, image id).

        So the first n rows are a fair sample for every n. Without the dataset's name: severities
        of one corruption keep their images together. An image that is added moves no other.
        """
        key = lambda row: digest(f"{seed}\0{row.image_id}")  # noqa: E731
        return ImageList(tuple(sorted(self.rows, key=key)))

    @property
    def text(self) -> str:
        """The canonical CSV."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((r.image_id, r.path, r.class_id, r.sha256) for r in self.rows)
        return buffer.getvalue()

    @property
    def sha256(self) -> str:
        """Of the canonical CSV; part of every spec."""
        return digest(self.text)

    def write(self, path: str | Path) -> None:
        """Write the canonical CSV, whole or not at all.

        Raises:
            GenclassError: the disk refuses.
        """
        write_atomically(path, self.text)

    @classmethod
    def read(cls, path: str | Path) -> ImageList:
        """Read what `write` wrote.

        Raises:
            GenclassError: the file is missing or no image list.
        """
        again = "delete it and rerun: it is prepared again"
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                header, *rows = list(csv.reader(file)) or [[]]
        except OSError as error:
            raise GenclassError(f"{path}: cannot read the image list: {error.strerror}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise GenclassError(f"{path}: no image list ({error}): {again}") from None
        if header != _COLUMNS:
            raise GenclassError(f"{path}: no image list: {again}")
        for number, row in enumerate(rows, start=2):
            if len(row) != 4 or not row[2].isdecimal() or not _SHA256.fullmatch(row[3]):
                raise GenclassError(f"{path}: line {number} is no row of an image list: {again}")
        try:
            return cls(tuple(ImageRow(row[0], row[1], int(row[2]), row[3]) for row in rows))
        except GenclassError as error:
            raise GenclassError(f"{path}: {error}") from None
