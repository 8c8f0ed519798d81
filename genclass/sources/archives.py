"""Archives are unpacked once, and cannot write outside their folder."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from genclass.errors import GenclassError
from genclass.files import digests, disk_errors, exclusive, require_space, write_json
from genclass.sources.progress import Progress

_MARKER = ".unpacked.json"
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)


def unpack(
    archive: Path,
    destination: Path,
    *,
    only: Sequence[str] = (),
    password: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Unpack a tar (compressed or not) or a zip into the new folder `destination`, once.

    It appears there whole: a killed run leaves nothing that counts. Unpacking again does nothing;
    another archive, or another `only`, replaces what an earlier one put there.

    Args:
        only: folders or files of the archive; the rest stays packed.
        password: of an encrypted zip.
        sha256: of the archive, if it is known, so that it is not read once more for it.

    Raises:
        GenclassError: the archive is damaged, locked or dangerous (a member outside the folder, a
            link, a device: no dataset needs one), lacks something in `only`, or the disk is full;
            or `destination` is something else than a folder that `unpack` made.
    """
    job = _Unpacking(
        archive,
        [_parts(archive, name) for name in only],
        password,
        progress or Progress(),
    )
    doing = f"cannot unpack {archive}"
    with disk_errors(doing, destination.parent):
        digest = sha256 or digests(archive, md5=False)[0]
        mark = {"archive_sha256": digest, "only": sorted(set(only))}
        if _mark_of(destination) == mark:
            return destination
        with exclusive(destination, job.progress.say):
            if _mark_of(destination) == mark:  # another run was faster
                return destination
            if destination.exists() and _mark_of(destination) is None:
                raise GenclassError(
                    f"{doing}: {destination} is there and no archive was unpacked into it: move it "
                    "away, or name it in the config as file:... in place of the archive"
                )
            fresh = destination.with_name(f".{destination.name}.unpacking")
            stale = destination.with_name(f".{destination.name}.stale")
            _remove(fresh)
            _remove(stale)
            try:
                fresh.mkdir()
                job.run(fresh)
                write_json(fresh / _MARKER, mark)
                if destination.exists():
                    destination.rename(stale)
                fresh.rename(destination)
            finally:
                job.progress.close()
                _remove(fresh)
            _remove(stale)
    return destination


def why_no_archive(path: Path) -> str | None:
    """Why a file is no whole tar or zip, as far as is seen without unpacking it; or None.

    A tar is read to its end, decompressed if it is compressed.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                while tar.next() is not None:
                    tar.members = []  # type: ignore[attr-defined]
                return None if _ends_well(tar) else f"damaged at byte {tar.offset}"
        with zipfile.ZipFile(path) as packed:
            return None if packed.infolist() else "it holds no file"
    except _DAMAGE as error:
        return f"damaged, or neither tar nor zip ({error})"


def _ends_well(tar: tarfile.TarFile) -> bool:
    """Is what follows the last member the end? tarfile takes a damaged header for it."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        return False
    while tar.fileobj.read(1 << 20):
        pass  # gzip compares its checksum at the end only
    return True


def _mark_of(folder: Path) -> object:
    try:
        return json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    """The path of a member, folder by folder; raises GenclassError if it leads outside."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith(("/", "\\")) or ".." in re.split(r"[\\/]", name):
        raise GenclassError(f"{archive}: the member {name!r} leads outside: not unpacked")
    if "\\" in name or "\0" in name:
        raise GenclassError(
            f"{archive}: the member {name!r} has a backslash or NUL in its name: not unpacked"
        )
    return parts


def _with_slashes(name: str) -> str:
    """`C:\\x` and `\\x` stay paths from a root, which are refused."""
    return re.sub(r"^[A-Za-z]:(?=[\\/])", "", name).replace("\\", "/")


class _Unpacking:
    """One archive on its way into one empty folder."""

    def __init__(
        self,
        archive: Path,
        only: Sequence[tuple[str, ...]],
        password: str | None,
        progress: Progress,
    ) -> None:
        self.archive = archive
        self.only = only
        self.password = password
        self.progress = progress
        self._met: set[tuple[str, ...]] = set()  # which of `only` were there
        self._files = 0

    def run(self, folder: Path) -> None:
        try:
            if tarfile.is_tarfile(self.archive):
                self._tar(folder)
            else:
                self._zip(folder)
        except _DAMAGE as error:
            raise self._refusal(f"damaged, or neither tar nor zip ({error})") from error

    def _refusal(self, reason: str) -> GenclassError:
        return GenclassError(f"{self.archive}: {reason}: not unpacked")

    def _wanted(self, name: str) -> bool:
        """Is the member to be unpacked? Raises GenclassError if it leads outside."""
        parts = _parts(self.archive, name)
        met = [prefix for prefix in self.only if parts[: len(prefix)] == prefix]
        self._met.update(met)
        return bool(parts) and (bool(met) or not self.only)

    def _check_complete(self) -> None:
        if missing := [part for part in self.only if part not in self._met]:
            names = ", ".join("/".join(part) for part in missing)
            raise self._refusal(f"nothing in it is called {names}")
        if not self._files:
            raise self._refusal("it holds no file")

    def _tar(self, folder: Path) -> None:
        size = self.archive.stat().st_size
        if not self.only:
            require_space(f"cannot unpack {self.archive}", folder, size)
        with tarfile.open(self.archive) as tar:
            while (member := tar.next()) is not None:
                # tarfile keeps them all, and ImageNet-C has a million.
                tar.members = []  # type: ignore[attr-defined]
                wanted = self._wanted(member.name)
                if not (member.isreg() or member.isdir()):
                    target = f" to {member.linkname!r}" if member.linkname else ""
                    raise self._refusal(f"the member {member.name!r} is a link or device{target}")
                source = tar.extractfile(member) if wanted and member.isreg() else None
                if source is not None:
                    self._write(source, folder, member.name)
                    self._files += 1
                self.progress.update(f"unpacking {self.archive.name}", tar.offset, None)
            if not _ends_well(tar):
                raise self._refusal(f"damaged at byte {tar.offset}")
        self._check_complete()

    def _zip(self, folder: Path) -> None:
        with zipfile.ZipFile(self.archive) as packed:
            members = []
            backslashes = False
            for member in packed.infolist():
                if "\\" in member.filename:  # some programs of Windows write them for slashes
                    backslashes = True
                    member.filename = _with_slashes(member.filename)
                wanted = self._wanted(member.filename)
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refusal(f"the member {member.filename!r} is a link or a device")
                if wanted and not member.is_dir():
                    members.append(member)
            size = sum(member.file_size for member in members)
            require_space(f"cannot unpack {self.archive}", folder, size)
            self._files = len(members)
            self._check_complete()
            if not any(member.flag_bits & 1 for member in members):
                self._unlocked_zip(packed, members, folder, size)
            elif self.password is None:
                raise self._refusal("it is encrypted: give its password in the config")
            elif not backslashes and (unzip := shutil.which("unzip")):
                self._locked_zip(unzip, members, folder)
            else:
                packed.setpassword(self.password.encode())
                self._unlocked_zip(packed, members, folder, size)

    def _unlocked_zip(
        self,
        packed: zipfile.ZipFile,
        members: Sequence[zipfile.ZipInfo],
        folder: Path,
        total: int,
    ) -> None:
        done = 0
        for member in members:
            try:
                self._write(packed.open(member), folder, member.filename)
            except (RuntimeError, NotImplementedError) as error:
                raise self._refusal(f"{member.filename!r}: {error}") from error
            done += member.file_size
            self.progress.update(f"unpacking {self.archive.name}", done, total)

    def _write(self, source: IO[bytes], folder: Path, name: str) -> None:
        """Write one member. With its name checked and no links, nothing can lead it outside.

        tarfile's own data filter would say no more, and Python 3.11.2 does not have it.
        """
        path = folder.joinpath(*_parts(self.archive, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def _locked_zip(self, unzip: str, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
        """Python decrypts a megabyte or two a second, which for ObjectNet is more than a day."""
        self.progress.say(f"unpacking {self.archive} with {unzip}")
        names = {member.filename for member in members}
        patterns = []
        for parts in self.only:
            name = "/".join(parts)
            literal = "".join(f"[{char}]" if char in "*?[" else char for char in name)
            patterns.append(literal if name in names else f"{literal}/*")
        done = subprocess.run(
            [
                *(unzip, "-o", "-P", self.password or "", str(self.archive.resolve())),
                *(*patterns, "-d", str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # one line per file
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            wrong = "password" in done.stderr
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise self._refusal("the password is wrong" if wrong else f"unzip: {last}")
