"""The image list: which images of a dataset are evaluated, in which order, under which label."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import reading, write_atomically
from genclass.text import digest

_COLUMNS = ["image_id", "path", "class_id", "sha256"]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_UNWRITABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_AGAIN = "delete it and rerun: it is prepared again"


def is_writable(name: str) -> bool:
    """Can a name stand in a list? Not with control characters, or where it is no UTF-8."""
    return not _UNWRITABLE.search(name)


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
        """Write the canonical CSV and, as its last line, how many rows it has and its sha256.

        Raises:
            GenclassError: the disk refuses.
        """
        write_atomically(path, f"{self.text},,{len(self)},{self.sha256}\n")

    @classmethod
    def read(cls, path: str | Path) -> ImageList:
        """Read what `write` wrote.

        Raises:
            GenclassError: the file is missing, no image list, or not as it was written.
        """
        with reading(path, "image list", "rerun: it is prepared again"):
            content = Path(path).read_bytes()
        try:
            header, *rows = list(csv.reader(io.StringIO(content.decode(), newline=""))) or [[]]
        except (UnicodeDecodeError, csv.Error) as error:
            raise GenclassError(f"{path}: no image list ({error}): {_AGAIN}") from None
        if header != _COLUMNS:
            raise GenclassError(f"{path}: no image list: {_AGAIN}")
        images = []
        for number, row in enumerate(rows[:-1], start=2):
            if not _is_row(row):
                raise GenclassError(f"{path}: line {number} is no row of an image list: {_AGAIN}")
            images.append(ImageRow(row[0], row[1], int(row[2]), row[3]))
        try:
            found = cls(tuple(images))
        except GenclassError as error:
            raise GenclassError(f"{path}: {error}: {_AGAIN}") from None
        if content.decode() != f"{found.text},,{len(found)},{found.sha256}\n":
            raise GenclassError(f"{path}: it was cut off or edited: {_AGAIN}")
        return found


def _is_row(row: list[str]) -> bool:
    if (
        len(row) != 4
        or not row[0]
        or not _NUMBER.fullmatch(row[2])
        or not _SHA256.fullmatch(row[3])
    ):
        return False
    inside = row[1] and not row[1].startswith("/") and ".." not in row[1].split("/")
    return bool(inside) and is_writable(row[0]) and is_writable(row[1])
