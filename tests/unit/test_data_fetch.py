"""Fetch: sections of the config, brought to disk from a server on 127.0.0.1, and described."""

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from genclass.config import Checkpoint, Dataset, parse_config
from genclass.data.class_lists import ClassList
from genclass.data.fetch import (
    fetch_checkpoint,
    fetch_config,
    fetch_dataset,
    is_on_disk,
)
from genclass.data.prepare import prepare
from genclass.errors import GenclassError
from genclass.sources import LockFile, Manifest
from genclass.sources.weight_files import checkpoint_sha256
from tests.support.archives import contents, make_tar
from tests.support.image_folders import NAMES, devkit, put
from tests.support.small_config import SMALL
from tests.support.web import Web


def weights(value: float) -> bytes:
    """A small checkpoint."""
    return save({"w": np.full(2, value, np.float32)})


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    web = Web(tmp_path)
    yield web
    web.server.shutdown()
    web.server.server_close()


class Places:
    """What both functions take: the downloads folder, the lock file, and whether it is offline."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.lock = LockFile(folder / "config.lock.json")

    def checkpoint(self, *places: str, offline: bool = False, **options: Any) -> Manifest:
        section = Checkpoint(places=list(places), licence="MIT", **options)
        return fetch_checkpoint("w", section, self.downloads, self.lock, offline)

    def dataset(self, name: str, *places: str, offline: bool = False, **options: Any) -> Manifest:
        section = Dataset(places=list(places), title="T", licence="MIT", images=1, **options)
        return fetch_dataset(name, section, self.downloads, self.lock, offline)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_a_checkpoint_is_named_by_its_place(web: Web, places: Places) -> None:
    content = weights(1)
    manifest = places.checkpoint("file:no/such.pt", web.put("a/w.pt", content) + "?key=1")
    host = f"127.0.0.1:{web.server.server_port}"
    query = hashlib.sha256(b"key=1").hexdigest()[:8]
    assert manifest.path == str(places.downloads / "checkpoints" / host / "a" / f"w-{query}.pt")
    assert (manifest.kind, manifest.bytes) == ("file", len(content))


def test_what_a_pattern_means_has_a_name_without_a_star(places: Places) -> None:
    names = set()
    for pattern in ("hf://a/b/x*.pt", "hf://a/b/x_.pt"):
        with pytest.raises(GenclassError, match="is missing, and offline") as error:
            places.checkpoint(pattern, offline=True)
        names.add(str(error.value).partition(" is missing")[0])
    assert len(names) == 2 and not any("*" in name for name in names)


def test_what_does_not_open_or_is_not_finite_is_never_recorded(
    web: Web, places: Places, tmp_path: Path
) -> None:
    cut, broken = web.put("a.pt", weights(1)[:-1]), web.put("b.pt", weights(float("nan")))
    with pytest.raises(GenclassError) as error:
        places.checkpoint(cut, broken)
    assert f"{cut}: damaged checkpoint (" in str(error.value)
    assert f"{broken}: w holds NaN or infinity (2 of 2 values): the weights" in str(error.value)
    none, half = web.put("x.tar", b"no archive" * 99), web.folder / "y.tar.gz"
    web.put_tar("y.tar.gz", put(tmp_path / "made", "digit-3/a.png"))
    half.write_bytes(half.read_bytes()[:-9])
    with pytest.raises(GenclassError) as error:
        places.dataset("x", none, web.url("y.tar.gz"))
    assert f"{none}: damaged, or neither tar nor zip (" in str(error.value)
    assert "y.tar.gz: damaged" in str(error.value)
    assert not places.lock.path.exists()
    good = web.put("c.pt", weights(2))
    assert places.checkpoint(cut, broken, good).place == good


def test_settings_beside_weights_are_fetched_as_such(web: Web, places: Places) -> None:
    wrong = [web.put("a/config.json", b"[1]"), web.put("b/config.json", b"settings")]
    with pytest.raises(GenclassError) as error:
        places.checkpoint(*wrong)
    assert "no object of settings" in str(error.value)
    assert "not JSON" in str(error.value)
    good = web.put("c/config.json", b'{"model_type": "vit"}')
    manifest = places.checkpoint(*wrong, good)
    assert manifest.place == good
    assert json.loads(Path(manifest.path).read_text()) == {"model_type": "vit"}


def test_a_folder_of_the_users_stands_for_the_checkpoint_in_it(
    places: Places, tmp_path: Path
) -> None:
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "w.safetensors").write_bytes(weights(1))
    (folder / "README.md").write_text("x")
    manifest = places.checkpoint(f"file:{folder}")
    assert (manifest.kind, manifest.path) == ("file", f"{folder}/w.safetensors")
    assert manifest.sha256 == hashlib.sha256(weights(1)).hexdigest()
    with pytest.raises(GenclassError, match=r"nets/w\.safetensors: sha256 \w+ .* as the config"):
        places.checkpoint(f"file:{folder}", sha256="0" * 64)

    index = {"weight_map": {"w": "v.safetensors"}}
    (folder / "w.safetensors").rename(folder / "v.safetensors")
    (folder / "w.safetensors.index.json").write_text(json.dumps(index))
    for place in (folder, folder / "w.safetensors.index.json"):
        manifest = places.checkpoint(f"file:{place}")
        assert (manifest.path, manifest.files) == (f"{folder}/w.safetensors.index.json", 2)
        assert manifest.sha256 == checkpoint_sha256(place)
        assert manifest.bytes == len(weights(1)) + len(json.dumps(index))


def test_an_edited_place_is_another_file_and_held_to_the_first(web: Web, places: Places) -> None:
    places.checkpoint(web.put("one.pt", weights(1)))
    two = web.put("two.pt", weights(2))
    with pytest.raises(GenclassError, match=r"lock\.json says \(delete its entry 'checkpoints/w'"):
        places.checkpoint(two)
    entries = json.loads(places.lock.path.read_text())
    del entries["checkpoints/w"]
    places.lock.path.write_text(json.dumps(entries))
    assert Path(places.checkpoint(two).path).read_bytes() == weights(2)


def test_an_archive_is_unpacked_and_prepared(web: Web, places: Places, tmp_path: Path) -> None:
    put(tmp_path / "made", "digits/digit-3/a.png", "digits/digit-4/a.png")
    url = web.put_tar("digits.tar.gz", tmp_path / "made")
    manifest = places.dataset("digits", url, labels="digits")
    assert (manifest.kind, manifest.place) == ("archive", url)
    assert Path(manifest.path).parent == places.downloads / "datasets"
    assert manifest.bytes == (web.folder / "digits.tar.gz").stat().st_size

    # As the workflow does it: by way of the file.
    manifest.write(tmp_path / "manifest.json")
    section = Dataset(
        places=[url], title="T", licence="", images=2, labels="digits", candidates="present"
    )
    folder = Manifest.read(tmp_path / "manifest.json").path
    images = prepare("digits", section, folder, ClassList.load("digits"), seed=0)
    assert sorted(row.class_id for row in images.rows) == [3, 4]


def test_a_second_time_and_offline_nothing_is_asked(
    web: Web, places: Places, tmp_path: Path
) -> None:
    url = web.put_tar("x.tar", put(tmp_path / "made", "digit-3/a.png"))
    with pytest.raises(GenclassError, match=r"x\.tar is missing, and offline it cannot be fetched"):
        places.dataset("x", url, offline=True)
    assert web.asked == []
    manifest = places.dataset("x", url)
    assert places.dataset("x", url, offline=True) == places.dataset("x", url) == manifest
    assert web.asked == ["/x.tar"]


def test_an_archive_that_is_unpacked_may_be_deleted(
    web: Web, places: Places, tmp_path: Path
) -> None:
    url = web.put_tar("x.tar", put(tmp_path / "made", "digit-3/a.png"))
    manifest = places.dataset("x", url)
    for archive in places.downloads.rglob("x.tar"):
        archive.unlink()
    assert places.dataset("x", url, offline=True) == manifest
    section = Dataset(places=[url], title="T", licence="MIT", images=1)
    assert is_on_disk("x", section, places.downloads)
    (Path(manifest.path) / ".manifest.json").unlink()  # as if it were not all there
    assert places.dataset("x", url) == manifest
    assert web.asked == ["/x.tar"] * 2


def test_what_is_on_disk_is_told_apart(web: Web, places: Places, tmp_path: Path) -> None:
    url = web.put_tar("x-r.tar", put(tmp_path / "made", "digit-3/a.png"))
    places.dataset("x-r", url)
    other = Dataset(places=[web.url("x.tar")], title="T", licence="MIT", images=1)
    assert not is_on_disk("x", other, places.downloads)
    network = Checkpoint(places=[web.put("w.pt", weights(1))], licence="MIT")
    assert not is_on_disk("w", network, places.downloads)
    places.checkpoint(*network.places)
    assert is_on_disk("w", network, places.downloads)


def test_a_manifest_keeps_its_time_unless_something_else_came(tmp_path: Path) -> None:
    raw = copy.deepcopy(SMALL) | {"results": str(tmp_path / "results")}
    raw["checkpoints"]["weights"]["places"] = [f"file:{tmp_path}/new.pt"]
    raw["datasets"]["digits"]["places"] = [f"file:{put(tmp_path / 'digits', 'digit-3/a.png')}"]
    config, path = parse_config(raw, "small"), tmp_path / "new.pt"
    path.write_bytes(weights(1))

    def fetched() -> None:
        list(fetch_config(config, LockFile(tmp_path / "lock.json"), offline=False))

    fetched()
    manifest = tmp_path / "results/manifests/checkpoints/weights.json"
    assert not manifest.exists()  # the workflow writes it
    sha256 = hashlib.sha256(weights(1)).hexdigest()
    moved = Manifest("checkpoints/weights", "file", "gone.pt", "file:gone.pt", 7, 1, sha256, "MIT")
    moved.write(manifest)
    os.utime(manifest, (1, 1))
    fetched()
    assert Manifest.read(manifest).path == str(path)
    assert manifest.stat().st_mtime == 1
    path.write_bytes(weights(2))
    fetched()
    assert Manifest.read(manifest).sha256 == hashlib.sha256(weights(2)).hexdigest()
    assert manifest.stat().st_mtime > 1


def test_another_archive_of_that_name_leaves_the_first_one_alone(
    web: Web, places: Places, tmp_path: Path
) -> None:
    first = places.dataset("x", web.put_tar("1.tar", put(tmp_path / "1", "digit-3/a.png")))
    places.lock.path.unlink()  # another config, another lock file
    second = places.dataset("x", web.put_tar("2.tar", put(tmp_path / "2", "digit-3/b.png")))
    for manifest, file in ((first, "a.png"), (second, "b.png")):
        assert list(contents(Path(manifest.path))) == [f"digit-3/{file}"]


def test_of_the_users_corruptions_only_those_that_matter_are_counted(
    places: Places, tmp_path: Path
) -> None:
    made = put(tmp_path / "C", *(f"fog/{s}/n01440764/a.jpg" for s in (1, 2, 3)))
    options = {"layout": "imagenet_c", "corruption": "fog", "severity": 2}
    manifest = places.dataset("fog-2", f"file:{made}", **options)
    assert (manifest.files, manifest.path) == (1, str(made))


def test_severities_share_an_archive(web: Web, places: Places, tmp_path: Path) -> None:
    made = put(tmp_path / "made", *(f"fog/{s}/n01440764/a.jpg" for s in (1, 2, 3)))
    url = web.put_tar("weather.tar", made)
    for severity in (1, 3):
        options = {"layout": "imagenet_c", "corruption": "fog", "severity": severity}
        manifest = places.dataset(f"fog-{severity}", url, **options)
        assert list(contents(Path(manifest.path))) == [f"fog/{severity}/n01440764/a.jpg"]
    assert web.asked == ["/weather.tar"]


def test_archives_of_one_name_are_not_mixed_up(web: Web, places: Places, tmp_path: Path) -> None:
    for name in ("one", "two"):
        url = web.put_tar(f"{name}/data.tar", put(tmp_path / name, f"{name}/a.png"))
        manifest = places.dataset(name, url)
        assert list(contents(Path(manifest.path))) == [f"{name}/a.png"]


def test_the_official_validation_set_gets_its_labels_from_the_devkit(
    web: Web, places: Places, tmp_path: Path
) -> None:
    url = web.put_tar("val.tar", put(tmp_path / "flat", *NAMES[1:3]))
    kit = web.put_tar("devkit.tar.gz", devkit(tmp_path / "kit", "3\n1\n"))
    options: dict[str, Any] = {"layout": "imagenet_val", "candidates": "present"}
    options["devkit"] = {"places": [kit], "licence": "own terms"}
    manifest = places.dataset("val", "file:no/imagenet", url, **options)
    section = Dataset(places=[url], title="T", licence="", images=2, **options)
    images = prepare("val", section, manifest.path, ClassList.load("imagenet"), seed=0)
    assert {row.path: row.class_id for row in images.rows} == {NAMES[1]: 1, NAMES[2]: 278}
    assert places.lock.get("datasets/val/devkit") is not None


def test_an_archive_of_the_users(places: Places, tmp_path: Path) -> None:
    made = put(tmp_path / "made", "digit-3/a.png")
    make_tar(tmp_path / "mine.tar", contents(made))
    manifest = places.dataset("mine", f"file:{tmp_path}/mine.tar")
    assert list(contents(Path(manifest.path))) == ["digit-3/a.png"]
    folder = places.dataset("folder", f"file:{made}")  # used where it lies
    assert (folder.kind, folder.path) == ("folder", str(made))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GenclassError, match=r"no place gives it \(file:.*/empty: an empty folder"):
        places.dataset("folder", f"file:{tmp_path}/empty")
    assert places.dataset("folder", f"file:{tmp_path}/empty", f"file:{made}").path == str(made)
