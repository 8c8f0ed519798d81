"""Checksums that nobody published: those of the first download, held from then on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import disk_errors, exclusive, write_json


@dataclass(frozen=True)
class Locked:
    """What was downloaded the first time, and from which place."""

    sha256: str
    bytes: int
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
        try:
            text = self.path.read_text(encoding="utf-8")
            return {name: Locked(**entry) for name, entry in json.loads(text).items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise GenclassError(f"{self.path}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise GenclassError(
                f"{self.path} is no lock file ({error}): mend it, or delete it to record the "
                "checksums of the next downloads"
            ) from error
