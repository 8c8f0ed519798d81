"""Fetch: what a section of the config names, brought to disk, unpacked, and described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genclass.config import Checkpoint, Dataset, Download, digest
from genclass.sources import LockFile, Manifest, fetch, unpack


def fetch_checkpoint(
    name: str, checkpoint: Checkpoint, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """The file of a checkpoint, in `downloads/checkpoints` unless it is a local one.

    Raises:
        GenclassError: see `genclass.sources.fetch`.
    """
    return _fetch(f"checkpoints/{name}", checkpoint, downloads / "checkpoints", lock, offline)


def fetch_dataset(
    name: str, dataset: Dataset, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """A dataset's folder: the user's own, or `downloads/datasets/NAME`, unpacked from its archive.

    The manifest has the path of the folder, and the bytes and sha256 of the archive. Datasets that
    come from one archive download it once.

    Raises:
        GenclassError: see `genclass.sources.fetch` and `unpack`.
    """
    archives = downloads / "archives"
    manifest = _fetch(f"datasets/{name}", dataset, archives, lock, offline)
    if manifest.kind == "folder":
        return manifest
    folder = unpack(
        Path(manifest.path),
        downloads / "datasets" / name,
        only=[f"{dataset.corruption}/{dataset.severity}"] if dataset.corruption else [],
        password=dataset.password,
        sha256=manifest.sha256,
    )
    if dataset.devkit:
        devkit = _fetch(f"datasets/{name}/devkit", dataset.devkit, archives, lock, offline)
        unpack(Path(devkit.path), folder / "devkit", sha256=devkit.sha256)
    return replace(manifest, path=str(folder), kind="archive")


def _fetch(name: str, download: Download, folder: Path, lock: LockFile, offline: bool) -> Manifest:
    return fetch(
        name,
        download.places,
        folder / _path_of(download),
        licence=download.licence,
        lock=lock,
        sha256=download.sha256,
        md5=download.md5,
        bytes=download.bytes,
        offline=offline,
    )


def _path_of(download: Download) -> Path:
    """Where a download goes: `zenodo.org/records/2235448/files/noise.tar`.

    By its place, not by its name in the config: what comes from one place is downloaded once, and
    an edited place is another file. The first place that has a name counts; Drive has only ids.
    """
    named = [p for p in download.places if not p.startswith(("file:", "gdrive:"))]
    address, _, query = (named or download.places)[0].partition("?")
    parts = address.partition(":")[2].split("/")
    path = Path(*(part for part in parts if part not in ("", ".", "..")))
    return path.with_stem(f"{path.stem}-{digest(query)[:8]}") if query else path
