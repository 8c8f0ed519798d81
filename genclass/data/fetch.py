"""Fetch: what a section of the config names, brought to disk, unpacked, and described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genclass.config import Checkpoint, Dataset, Download
from genclass.sources import LockFile, Manifest, fetch, unpack


def fetch_checkpoint(
    name: str, checkpoint: Checkpoint, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """The file of a checkpoint, in `downloads/checkpoints` unless it is a local one.

    Raises:
        GenclassError: see `genclass.sources.fetch`.
    """
    suffix = Path(_file_name(checkpoint)).suffix
    return _fetch(
        f"checkpoints/{name}",
        checkpoint,
        downloads / "checkpoints" / f"{name}{suffix}",
        lock,
        offline,
    )


def fetch_dataset(
    name: str, dataset: Dataset, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """A dataset's folder: the user's own, or `downloads/datasets/NAME`, unpacked from its archive.

    The manifest has the path of the folder, and the bytes and sha256 of the archive. Datasets that
    come from one archive download it once.

    Raises:
        GenclassError: see `genclass.sources.fetch` and `unpack`.
    """
    archive = downloads / "archives" / _file_name(dataset)
    manifest = _fetch(f"datasets/{name}", dataset, archive, lock, offline)
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
        tar = downloads / "archives" / _file_name(dataset.devkit)
        devkit = _fetch(f"datasets/{name}/devkit", dataset.devkit, tar, lock, offline)
        unpack(Path(devkit.path), folder / "devkit", sha256=devkit.sha256)
    return replace(manifest, path=str(folder), kind="archive")


def _fetch(
    name: str, download: Download, destination: Path, lock: LockFile, offline: bool
) -> Manifest:
    return fetch(
        name,
        download.places,
        destination,
        licence=download.licence,
        lock=lock,
        sha256=download.sha256,
        md5=download.md5,
        bytes=download.bytes,
        offline=offline,
    )


def _file_name(download: Download) -> str:
    """What the file is called at the first place that has names (Google Drive has only ids)."""
    named = [place for place in download.places if not place.startswith("gdrive:")]
    return (named or download.places)[0].partition("?")[0].rsplit("/", 1)[-1]
