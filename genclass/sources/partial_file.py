"""A download that is not whole yet, as it lies on disk."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from genclass.files import write_json


class PartialFile:
    """The unfinished download `NAME.part`, and in `NAME.part.json` what it is the beginning of.

    gdown insists on names of its own: what it writes is `NAME.gdrive`, and before that
    `NAME.gdrive`, eight random letters and `.part`.
    """

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self.gdrive = destination.with_name(f"{destination.name}.gdrive")
        self._note = destination.with_name(f"{destination.name}.part.json")

    def of_gdown(self) -> list[Path]:
        """The downloads that gdown has begun."""
        name = re.compile(rf"{re.escape(self.gdrive.name)}.{{8}}\.part")
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name))

    @property
    def begun(self) -> bool:
        return self.size > 0 or self.gdrive.exists() or bool(self.of_gdown())

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, place: str) -> str | None:
        """What `place` called the version that this is the beginning of (an ETag or a date)."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["place"] == place and note["validator"] else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def restart(self, place: str, validator: str | None) -> None:
        """Empty it: what follows comes from `place`."""
        self.path.write_bytes(b"")
        write_json(self._note, {"place": place, "validator": validator})

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def rename(self, destination: Path) -> None:
        """It is whole: give it its name, and drop what other places had begun."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        for path in (self._note, self.gdrive, *self.of_gdown()):
            path.unlink(missing_ok=True)
