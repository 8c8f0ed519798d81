"""Class lists: what a dataset calls its classes, and the ids that the networks know them by."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import reading
from genclass.text import canonical_json, did_you_mean, digest

_PACKAGED = Path(__file__).parent / "lists"
_COLUMNS = ["class_id", "folder", "name"]


@dataclass(frozen=True)
class ClassEntry:
    class_id: int  # what the networks are conditioned on
    folder: str  # its folder in an ImageFolder; for ImageNet the wnid
    name: str  # what a person calls it


@dataclass(frozen=True)
class ClassList:
    """All classes that a label may be, e.g. the 1000 of ImageNet."""

    name: str
    entries: tuple[ClassEntry, ...]

    @property
    def class_ids(self) -> list[int]:
        """Sorted."""
        return sorted(entry.class_id for entry in self.entries)

    @property
    def sha256(self) -> str:
        """Of what stands in it."""
        return digest(canonical_json([asdict(entry) for entry in self.entries]))

    @property
    def by_folder(self) -> dict[str, int]:
        """Class ids by the name of their folder."""
        return {entry.folder: entry.class_id for entry in self.entries}

    @classmethod
    def load(cls, name_or_path: str | Path) -> ClassList:
        """A list of the package (`imagenet`, `digits`), or a CSV file `class_id,folder,name`.

        Raises:
            GenclassError: the name is unknown, or the file is missing or no class list.
        """
        text = str(name_or_path)
        if text.endswith(".csv"):
            path = Path(name_or_path)
        else:
            path = _PACKAGED / f"{text}.csv"
            known = [file.stem for file in _PACKAGED.glob("*.csv")]
            if text not in known:
                raise GenclassError(
                    f"unknown class list '{text}': {did_you_mean(text, known)} (or the path of a "
                    f".csv file)"
                )
        with reading(path, "class list", "correct `labels:`"):
            content = path.read_bytes()
        return cls(text, _entries(path, content))


@lru_cache(maxsize=8)  # a plan asks for the same few lists once a cell
def _entries(path: Path, content: bytes) -> tuple[ClassEntry, ...]:
    try:
        text = content.decode("utf-8-sig")  # spreadsheet programs put a mark before it
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise GenclassError(
            f"{path}: no CSV file in UTF-8 ({error}): save it as `CSV UTF-8`, or as text in UTF-8"
        ) from None
    if header != _COLUMNS:
        raise GenclassError(
            f"{path}: a class list begins with the line {','.join(_COLUMNS)}, this one with "
            f"{','.join(header)[:60]!r}{_hint(header)}"
        )
    if not rows:
        raise GenclassError(f"{path}: the class list is empty")
    entries = []
    for number, row in enumerate(rows, start=2):
        if len(row) != 3 or not re.fullmatch("[0-9]{1,9}", row[0]) or not row[1]:
            raise GenclassError(
                f"{path}: line {number} is {','.join(row)[:60]!r}: expected class_id,folder,name, "
                f"e.g. 0,n01440764,tench"
            )
        entries.append(ClassEntry(int(row[0]), row[1], row[2]))
    for column in ("class_id", "folder"):
        [(value, count)] = Counter(getattr(entry, column) for entry in entries).most_common(1)
        if count > 1:
            raise GenclassError(f"{path}: {column} {value} stands there {count} times: keep one")
    return tuple(entries)


def _hint(header: list[str]) -> str:
    """What another header comes from."""
    line = ",".join(header)
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in line:
            return f": its columns are separated by {name}: save it with commas"
    if set(_COLUMNS) <= set(header):
        others = [column or "a column without a name" for column in header]
        others = [column for column in others if column not in _COLUMNS]
        return f": remove {', '.join(others)}" if others else ": put the columns in that order"
    return ""
