"""Fetch: what a section of the config names, brought to disk, unpacked, and described."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genclass.config import Checkpoint, Dataset, Download
from genclass.errors import GenclassError
from genclass.files import disk_errors
from genclass.sources import (
    LocalPlace,
    LockFile,
    Manifest,
    Wanted,
    fetch,
    parse_place,
    unpack,
    why_no_archive,
)
from genclass.sources.weight_files import checkpoint_files, checkpoint_sha256, why_no_settings
from genclass.text import canonical_json, digest

if TYPE_CHECKING:
    from genclass.config import Config  # the whole of it takes its time

_WHOLE = ".manifest.json"  # in an unpacked folder: all of it is there


def fetch_checkpoint(
    name: str, checkpoint: Checkpoint, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """The file of a checkpoint, in `downloads/checkpoints` unless it is a local one.

    It opens, and its weights are finite; a .json beside them holds settings. Of a folder of the
    user's the manifest has the file that is meant; of an index of shards the bytes and the sha256
    (`checkpoint_sha256`) are those of all.

    Raises:
        GenclassError: see `genclass.sources.fetch`; or a folder or shards of another sha256.
    """
    from genclass.sources.checkpoints import why_no_checkpoint  # torch takes its time

    manifest = _fetch(
        f"checkpoints/{name}",
        checkpoint,
        downloads / "checkpoints",
        lock,
        offline,
        objection=why_no_settings if _is_settings(checkpoint) else why_no_checkpoint,
    )
    files = checkpoint_files(Path(manifest.path))
    if manifest.kind == "file" and len(files) == 1:
        return manifest
    with disk_errors(f"checkpoints/{name}: cannot read", files[0]):
        sha256 = checkpoint_sha256(files[0])
        size = sum(file.stat().st_size for file in files)
    if checkpoint.sha256 not in (None, sha256):
        raise GenclassError(
            f"checkpoints/{name}: {files[0]}: sha256 {sha256} (of its {len(files)} files), not "
            f"{checkpoint.sha256} as the config says: correct the one or the other"
        )
    return replace(
        manifest, kind="file", path=str(files[0]), bytes=size, files=len(files), sha256=sha256
    )


def fetch_dataset(
    name: str, dataset: Dataset, downloads: Path, lock: LockFile, offline: bool
) -> Manifest:
    """A dataset's folder: the user's own, or what was unpacked into `downloads/datasets`.

    The manifest has the path of the folder, and the bytes and sha256 of the archive. Datasets that
    come from one archive download it once; an archive that is unpacked may be deleted.

    Raises:
        GenclassError: see `genclass.sources.fetch` and `unpack`.
    """
    if there := _unpacked(name, dataset, downloads, lock):
        return there  # and its archive may be gone
    archives = downloads / "archives"
    held = dataset.sha256 or dataset.md5 or lock.get(f"datasets/{name}")
    objection = _no_objection if held else _why_no_dataset
    manifest = _fetch(f"datasets/{name}", dataset, archives, lock, offline, objection=objection)
    if manifest.kind == "folder":
        return manifest
    folder = unpack(
        Path(manifest.path),
        _folder_of(name, dataset, downloads, manifest.sha256),
        only=[dataset.within] if dataset.within else [],
        password=dataset.password,
        sha256=manifest.sha256,
    )
    if dataset.devkit:
        devkit = _fetch(
            f"datasets/{name}/devkit",
            dataset.devkit,
            archives,
            lock,
            offline,
            objection=why_no_archive,
        )
        unpack(Path(devkit.path), folder / "devkit", sha256=devkit.sha256)
    manifest = replace(manifest, path=str(folder), kind="archive")
    manifest.write(folder / _WHOLE)
    return manifest


def fetch_config(config: Config, lock: LockFile, offline: bool) -> Iterator[Manifest]:
    """All that a config's evaluations need from outside, one after the other.

    Where an earlier run's file was deleted or its folder moved, the manifest in the results then
    says where it lies now. It keeps its time, unless something else came: nothing that depends on
    it is to be computed anew.

    Raises:
        GenclassError: see `genclass.sources.fetch` and `unpack`; or what the workflow makes itself
            is missing.
    """
    downloads, results = Path(config.downloads), Path(config.results)
    for (kind, name), section in config.sources().items():
        if made := config.made_here(section):
            if not Path(made[0]).exists():
                raise GenclassError(f"{kind}/{name}: the workflow makes it: snakemake {made[0]}")
            continue
        if isinstance(section, Dataset):
            fetched = fetch_dataset(name, section, downloads, lock, offline)
        else:
            fetched = fetch_checkpoint(name, section, downloads, lock, offline)
        path = results / "manifests" / kind / f"{name}.json"
        if path.is_file():
            earlier, time = Manifest.read(path), path.stat().st_mtime_ns
            if earlier != fetched:
                fetched.write(path)
                if earlier.sha256 == fetched.sha256:
                    os.utime(path, ns=(time, time))
        yield fetched


def is_on_disk(name: str, section: Checkpoint | Dataset, downloads: Path) -> bool:
    """Is it the user's, or was it downloaded for whatever results? It is not checked here."""
    if _is_the_users(section):
        return True
    if isinstance(section, Dataset):
        archive = downloads / "archives" / _path_of(section)
        folders = f"{name}-{'[0-9a-f]' * 12}"
        return archive.is_file() or any((downloads / "datasets").glob(f"{folders}/{_WHOLE}"))
    return (downloads / "checkpoints" / _path_of(section)).is_file()


def _unpacked(name: str, dataset: Dataset, downloads: Path, lock: LockFile) -> Manifest | None:
    """What was unpacked of the right archive, if that is where the dataset comes from."""
    if _is_the_users(dataset):
        return None
    locked = lock.get(f"datasets/{name}")
    sha256 = dataset.sha256 or (locked.sha256 if locked else None)
    if sha256 is None:
        return None
    folder = _folder_of(name, dataset, downloads, sha256)
    try:
        manifest = Manifest.read(folder / _WHOLE)
    except GenclassError:
        return None
    return replace(manifest, path=str(folder), licence=dataset.licence)


def _is_settings(checkpoint: Checkpoint) -> bool:
    """Is it what stands beside weights on the hub, a config.json?"""
    named = [place.partition("?")[0] for place in checkpoint.places]
    return all(name.endswith(".json") and not name.endswith(".index.json") for name in named)


def _is_the_users(section: Download) -> bool:
    places = map(parse_place, section.places)
    return any(isinstance(place, LocalPlace) and place.path.exists() for place in places)


def _folder_of(name: str, dataset: Dataset, downloads: Path, sha256: str) -> Path:
    """By what is in it: another archive of that name does not touch what others may be reading."""
    devkit = dataset.devkit and [dataset.devkit.places, dataset.devkit.sha256, dataset.devkit.md5]
    content = [sha256, dataset.within, devkit]
    return downloads / "datasets" / f"{name}-{digest(canonical_json(content))[:12]}"


def _no_objection(path: Path) -> str | None:
    return None


def _why_no_dataset(path: Path) -> str | None:
    return None if path.is_dir() else why_no_archive(path)


def _fetch(
    name: str,
    download: Download,
    folder: Path,
    lock: LockFile,
    offline: bool,
    objection: Callable[[Path], str | None],
) -> Manifest:
    wanted = Wanted(
        name,
        download.places,
        download.licence,
        sha256=download.sha256,
        md5=download.md5,
        bytes=download.bytes,
        within=download.within if isinstance(download, Dataset) else "",
        objection=objection,
    )
    return fetch(wanted, folder / _path_of(download), lock, offline=offline)


def _path_of(download: Download) -> Path:
    """Where a download goes: `zenodo.org/records/2235448/files/noise.tar`.

    By its place, not by its name in the config: what comes from one place is downloaded once, and
    an edited place is another file. The first place that has a name counts; Drive has only ids.
    """
    named = [p for p in download.places if not p.startswith(("file:", "gdrive:"))]
    address, _, query = (named or download.places)[0].partition("?")
    parts = address.partition(":")[2].split("/")
    path = Path(*(part.replace("*", "_") for part in parts if part not in ("", ".", "..")))
    told_apart = query or (address if "*" in address else "")
    return path.with_stem(f"{path.stem}-{digest(told_apart)[:8]}") if told_apart else path
