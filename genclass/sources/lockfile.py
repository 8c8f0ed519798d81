"""Checksums that nobody published: those of the first download, held from then on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from genclass.errors import GenclassError
from genclass.files import disk_errors, exclusive, read_json, write_json


@dataclass(frozen=True)
class Locked:
    """What was downloaded the first time, and from which place."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]
    place: str


class LockFile:
    """The JSON beside config.yaml that holds a checksum for each source without a published one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, config: str | Path) -> LockFile:
        """The one of a config file: config.lock.json for config.yaml."""
        return cls(Path(config).with_suffix(".lock.json"))

    def get(self, name: str) -> Locked | None:
        """What is recorded for `name`; raises GenclassError if the file is not readable."""
        return self._read().get(name)

    def record(self, name: str, locked: Locked) -> None:
        """Hold `name` to `locked` from now on.

        Raises:
            GenclassError: another sha256 is recorded already, or the file cannot be written.
        """
        with (
            disk_errors(f"cannot record the checksum of {name}", self.path),
            exclusive(self.path, lambda line: None),
        ):
            entries = self._read()
            before = entries.get(name)
            if before is None:
                entries[name] = locked
                write_json(self.path, {key: asdict(entry) for key, entry in entries.items()})
            elif before.sha256 != locked.sha256:
                raise GenclassError(
                    f"{name}: sha256 {locked.sha256}, but {self.path} holds {before.sha256}: if "
                    f"the new file is the right one, delete the entry {name!r} there and rerun"
                )

    def _read(self) -> dict[str, Locked]:
        if not self.path.exists():
            return {}
        return read_json(
            self.path,
            dict[str, Locked],
            "lock file",
            "mend it, or delete it to record the checksums of the next downloads",
        )
