"""Bring a source to where the jobs find it, from the first of its places that gives it.

What asks the network takes its time to import: it is imported where something is downloaded, for
most of what is fetched is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import digests, disk_errors, exclusive, write_json
from genclass.sources.lockfile import Locked, LockFile
from genclass.sources.manifest import Manifest, folder_manifest
from genclass.sources.partial_file import PartialFile
from genclass.sources.patience import Patience, PlaceFailed, persist
from genclass.sources.places import DrivePlace, HubPlace, LocalPlace, Place, UrlPlace, parse_place
from genclass.sources.progress import Progress
from genclass.sources.wrong_files import mistaken


@dataclass(frozen=True)
class Wanted:
    """A source, and what its file has to be; what is None is not known before.

    within: the one folder inside of a folder of the user's that matters; the rest is not read.
    objection: why a file or folder cannot be what is wanted, or None.
    """

    name: str
    places: Sequence[str]
    licence: str
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None
    within: str = ""
    objection: Callable[[Path], str | None] = lambda path: None


def fetch(
    wanted: Wanted,
    destination: Path,
    lock: LockFile,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Manifest:
    """Find or download one source, check it, and describe it.

    The places are tried in order. A `file:` place is used where it lies; a folder's contents are
    not checked here. Everything else is downloaded to `destination`, once, however many processes
    ask for it; a download that was cut or killed continues; a file that is already there is used
    if it is the right one. Without a `sha256` the one in `lock` holds, and the first download is
    recorded there; where that was a commit of a hub's `main`, it is that commit that is asked for
    from then on. Offline nothing is downloaded. What cannot be the file (nothing, a web page, what
    the objection refuses) is never recorded, and the next place is tried.

    Raises:
        GenclassError: no place gives the right file, what lies at `destination` is not it, or the
            disk is full.
    """
    locked = lock.get(wanted.name) if wanted.sha256 is None else None
    job = _Fetch(
        wanted=wanted,
        destination=destination,
        lock=lock,
        sha256=locked.sha256 if locked else wanted.sha256,
        held_by=(
            f"{lock.path} says (delete its entry {wanted.name!r} if the new file is the right one)"
            if locked
            else "the config says"
        ),
        offline=offline,
        patience=patience or Patience(),
        progress=progress or Progress(),
    )
    try:
        return job.run([p for place in wanted.places for p in _pinned(parse_place(place), locked)])
    finally:
        job.progress.close()


def _pinned(place: Place, locked: Locked | None) -> list[Place]:
    """Where the place means the newest commit, or a file by a pattern, first what was recorded."""
    if isinstance(place, HubPlace) and locked and (place.revision == "main" or place.is_pattern):
        first = parse_place(locked.place)
        if isinstance(first, HubPlace) and place.matches(first.path):
            revision = first.revision if place.revision == "main" else place.revision
            if first != place == replace(first, path=place.path, revision=place.revision):
                return [replace(first, revision=revision), place]
    return [place]


class _WrongFile(Exception):
    """The file is not the one that is wanted; the text says by what."""


@dataclass(frozen=True)
class _Fetch:
    wanted: Wanted
    destination: Path
    lock: LockFile
    sha256: str | None  # as the config says, or the lock file
    held_by: str  # who says so
    offline: bool
    patience: Patience
    progress: Progress

    @property
    def name(self) -> str:
        return self.wanted.name

    def run(self, places: Sequence[Place]) -> Manifest:
        reasons = []
        for place in places:
            try:
                if isinstance(place, LocalPlace):
                    return self._local(place)
                return self._already_there() or self._from(place)
            except (PlaceFailed, _WrongFile) as reason:
                reasons.append(f"{place}: {reason}")
        if there := self._already_there():
            return there
        if self.offline:
            raise GenclassError(
                f"{self.name}: {self.destination} is missing, and offline it cannot be fetched "
                f"({'; '.join(reasons)}): put it there yourself, or run once without `offline`"
            )
        if places and all(isinstance(place, LocalPlace) for place in places):
            raise GenclassError(
                f"{self.name}: no place gives it ({'; '.join(reasons)}): put the right file there, "
                "or correct its section of the config"
            )
        raise GenclassError(
            f"{self.name}: no place gives it ({'; '.join(reasons)}): "
            f"put the file at {self.destination} yourself and rerun"
        )

    def _local(self, place: LocalPlace) -> Manifest:
        path = place.path
        with disk_errors(f"{self.name}: cannot read", path):
            if path.is_dir():
                inner = path / self.wanted.within
                counted = inner if inner.is_dir() else path
                manifest = folder_manifest(self.name, counted, str(place), self.wanted.licence)
                if not manifest.files:
                    raise PlaceFailed("an empty folder")
                if reason := self.wanted.objection(path):
                    raise PlaceFailed(reason)
                return replace(manifest, path=str(path))
            if not path.is_file():
                hint = " ('$' is not expanded: write the path out)" if "$" in str(path) else ""
                raise PlaceFailed(f"no such file or folder{hint}")
            return self._manifest(path, str(place), self._check(path))

    def _already_there(self) -> Manifest | None:
        """The file at the destination, if there is one: only whole files get that name."""
        path = self.destination
        if not path.is_file():
            return None
        with disk_errors(f"{self.name}: cannot read", path):
            try:
                sha256 = self._check(path)
            except _WrongFile as reason:
                raise GenclassError(
                    f"{self.name}: {path} is not the right file: {reason}: "
                    "delete it and rerun: it is downloaded again"
                ) from reason
            place = self._origin(sha256)
            self._record(path, place, sha256)
        return self._manifest(path, place, sha256)

    def _from(self, place: UrlPlace | HubPlace | DrivePlace) -> Manifest:
        if self.offline:
            return self._from_cache(place, "not asked")
        if isinstance(place, HubPlace):
            from genclass.sources import hub

            if hub.is_offline():
                return self._from_cache(place, "not asked, as HF_HUB_OFFLINE is set")
        with (
            disk_errors(f"{self.name}: cannot download", self.destination.parent),
            exclusive(self.destination, self.progress.say),
        ):
            if there := self._already_there():  # another run was faster
                return there
            part = PartialFile(self.destination)
            continued = part.begun
            while True:
                origin, announced = self._transfer(place, part)
                try:
                    sha256 = self._check(part.path, announced)
                    break
                except _WrongFile:
                    part.discard()
                    if not continued:
                        raise
                    self.progress.say(f"{self.name}: the continued file is wrong; from the start")
                    continued = False
            self._record(part.path, origin, sha256)
            write_json(self._origin_note, {"place": origin, "sha256": sha256})
            part.rename(self.destination)
        return self._manifest(self.destination, origin, sha256)

    def _from_cache(self, place: UrlPlace | HubPlace | DrivePlace, reason: str) -> Manifest:
        """Without the network: what the user's Hugging Face cache holds."""
        if isinstance(place, HubPlace):
            from genclass.sources import hub

            if found := hub.cached(place):
                definite, path = found
                return self._manifest(path, str(definite), self._check(path))
        raise PlaceFailed(reason)

    def _transfer(
        self, place: UrlPlace | HubPlace | DrivePlace, part: PartialFile
    ) -> tuple[str, str | None]:
        """Bring the file into `part`; the definite name of the place, and the sha256 it gives."""
        if isinstance(place, DrivePlace):
            from genclass.sources import drive

            drive.download(place, self.name, part, self.wanted.bytes, self.patience, self.progress)
            return str(place), None
        from genclass.sources.network import Transfer

        if isinstance(place, UrlPlace):
            held = self.sha256 is not None or self.wanted.md5 is not None
            transfer = Transfer(self.name, str(place), place.url, {}, self.wanted.bytes, held)
            transfer.run(part, self.patience, self.progress)
            return str(place), None
        from genclass.sources import hub

        found = persist(
            lambda: hub.resolve(place, self.patience),
            name=self.name,
            patience=self.patience,
            progress=self.progress,
        )
        if None not in (self.sha256, found.sha256) and self.sha256 != found.sha256:
            raise PlaceFailed(
                f"its file has sha256 {found.sha256}, not {self.sha256} as {self.held_by}"
            )
        if None not in (self.wanted.bytes, found.bytes) and self.wanted.bytes != found.bytes:
            raise PlaceFailed(f"its file has {found.bytes} bytes, not {self.wanted.bytes}")
        origin = str(found.place)
        held = not (self.sha256 is None and self.wanted.md5 is None and found.sha256 is None)
        size = self.wanted.bytes if found.bytes is None else found.bytes
        transfer = Transfer(self.name, origin, found.url, found.headers, size, held)
        transfer.run(part, self.patience, self.progress)
        return origin, found.sha256

    def _check(self, path: Path, announced: str | None = None) -> str:
        """The sha256 of the file; raises _WrongFile if it is not the one that is wanted.

        What the hub announces counts where neither the config nor the lock file says anything.
        """
        if reason := mistaken(path):
            raise _WrongFile(reason)
        size = path.stat().st_size
        if self.wanted.bytes is not None and size != self.wanted.bytes:
            raise _WrongFile(f"{size} bytes, not {self.wanted.bytes} as the config says")
        sha256, md5 = digests(path, md5=self.wanted.md5 is not None)
        if self.wanted.md5 is not None and md5 != self.wanted.md5:
            raise _WrongFile(f"md5 {md5}, not {self.wanted.md5} as the config says")
        wanted = announced if self.sha256 is None else self.sha256
        if wanted is not None and sha256 != wanted:
            by = "the hub says" if self.sha256 is None else self.held_by
            raise _WrongFile(f"sha256 {sha256}, not {wanted} as {by}")
        if reason := self.wanted.objection(path):
            raise _WrongFile(reason)
        return sha256

    def _record(self, path: Path, place: str, sha256: str) -> None:
        if self.sha256 is None:
            self.lock.record(self.name, Locked(sha256, path.stat().st_size, place))

    @property
    def _origin_note(self) -> Path:
        return self.destination.with_name(f"{self.destination.name}.origin.json")

    def _origin(self, sha256: str) -> str:
        """Where the file at the destination was downloaded from, or that it was put there."""
        try:
            note = json.loads(self._origin_note.read_text(encoding="utf-8"))
            if note["sha256"] == sha256:
                return str(note["place"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return f"file:{self.destination}"

    def _manifest(self, path: Path, place: str, sha256: str) -> Manifest:
        size = path.stat().st_size
        return Manifest(self.name, "file", str(path), place, size, 1, sha256, self.wanted.licence)
