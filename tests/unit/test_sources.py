"""Places, manifests and the lock file: what sources are called and how they are recognised."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from genclass.errors import GenclassError
from genclass.sources import (
    DrivePlace,
    HubPlace,
    LocalPlace,
    Locked,
    LockFile,
    Manifest,
    UrlPlace,
    folder_manifest,
    parse_place,
)

COMMIT = "f04b2c4b98319346dad8c65879f680b1997b204a"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("https://a.org/x.pt?download=1", UrlPlace("https://a.org/x.pt?download=1")),
        ("hf://a/b/c/d.pt", HubPlace("a/b", "c/d.pt")),
        (f"hf://a/b.c@{COMMIT}/d.pt", HubPlace("a/b.c", "d.pt", COMMIT)),
        ("hf://datasets/a/b@v1.0/d.zip", HubPlace("a/b", "d.zip", "v1.0", "dataset")),
        ("gdrive://1Mj0i5HBthqH1p_yeXzsg2", DrivePlace("1Mj0i5HBthqH1p_yeXzsg2")),
        ("gdrive://1Mj0i5HBthqH1p_yeX/a/b.pt", DrivePlace("1Mj0i5HBthqH1p_yeX", "a/b.pt")),
        ("file:data/x.pt", LocalPlace(Path("data/x.pt"))),
        ("file:/data/x.pt", LocalPlace(Path("/data/x.pt"))),
        ("file:///data/x.pt", LocalPlace(Path("/data/x.pt"))),
        ("file:~/x.pt", LocalPlace(Path.home() / "x.pt")),
    ],
)
def test_places_are_parsed(text: str, place: object) -> None:
    assert parse_place(text) == place


def test_a_place_is_written_so_that_it_parses_to_itself() -> None:
    for text in (
        "https://a.org/x",
        "hf://a/b@main/c",
        "hf://datasets/a/b@v1/c/d",
        "gdrive://1Mj0i5HBthqH1p",
        "gdrive://1Mj0i5HBthqH1p/a/b",
        "file:x/y",
    ):
        assert str(parse_place(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "https://", "ftp://a/b", "hf://a/b", "hf://a", "hf://a/b/../c", "gdrive://x", "file:"],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(GenclassError) as error:
        parse_place(text)
    assert str(error.value).startswith(f"{text!r} is no place to fetch from: write https://")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://[::1/x", "Invalid IPv6 URL"),
        ("file:a\0b", r"it holds '\\x00'"),
        ("hf://a/b/c\r", r"it holds '\\r'"),
    ],
)
def test_what_no_address_can_hold_is_said(text: str, reason: str) -> None:
    with pytest.raises(GenclassError, match=f"is no place to fetch from: {reason}"):
        parse_place(text)


def test_a_name_that_no_file_system_takes_is_said() -> None:
    with pytest.raises(GenclassError, match=r"'x{40}\.\.\.' is no name in a place: it has 300 le"):
        parse_place("file:/data/" + "x" * 300)
    assert parse_place("file:/data/猫\u3000\u00a0x") == LocalPlace(Path("/data/猫\u3000\u00a0x"))


def test_a_pattern_spans_folders_and_takes_the_rest_literally() -> None:
    place = parse_place("hf://a/b/DiT[*.p.")
    assert isinstance(place, HubPlace) and place.is_pattern
    assert place.matches("DiT[x/y.p.") and not place.matches("DiT[xpp.")
    assert not HubPlace("a/b", "c.pt").is_pattern


def test_a_bare_path_gets_a_hint() -> None:
    with pytest.raises(GenclassError, match=r"for a file of yours: file:data/x\.pt"):
        parse_place("data/x.pt")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(GenclassError, match=r"a place on a\.org holds a user name") as error:
        parse_place("https://me:secret@a.org/x")
    assert "secret" not in str(error.value)


# Manifests


@pytest.fixture
def described(tmp_path: Path) -> Manifest:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    return Manifest("w", "file", str(path), "https://a.org/w", 7, 1, sha256, "MIT")


def test_a_manifest_is_small_and_the_same_each_time(tmp_path: Path, described: Manifest) -> None:
    path = tmp_path / "manifests" / "w.json"
    described.write(path)
    first = path.read_bytes()
    described.write(path)
    assert path.read_bytes() == first
    assert json.loads(first) == {
        "name": "w",
        "kind": "file",
        "path": described.path,
        "place": "https://a.org/w",
        "bytes": 7,
        "files": 1,
        "sha256": described.sha256,
        "licence": "MIT",
    }
    assert Manifest.read(path) == described
    assert [child.name for child in path.parent.iterdir()] == ["w.json"]  # nothing is left over


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "NaN", "[" * 9999, '{"name": "x"}'])
def test_what_is_no_manifest_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(GenclassError, match=r"w\.json is no manifest .*: delete it and rerun"):
        Manifest.read(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"bytes": 7', '"bytes": "7"'),
        ('"bytes": 7', '"bytes": -7'),
        ('"bytes": 7', '"bytes": NaN'),
        ('"kind": "file"', '"kind": "link"'),
        ('"files": 1', '"files": 1, "other": 2'),
        ('"sha256": "', '"sha256": "x'),
    ],
)
def test_a_manifest_with_a_wrong_type_is_none(
    tmp_path: Path, described: Manifest, before: str, after: str
) -> None:
    path = tmp_path / "w.json"
    described.write(path)
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(GenclassError, match=r"w\.json is no manifest \(.*\): delete it and rerun"):
        Manifest.read(path)


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"w\.json: the manifest is missing: rerun: it"):
        Manifest.read(tmp_path / "w.json")


def test_a_folder_is_recognised_by_its_names_and_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name in ("b/2.png", "a/1.png", ".snakemake_timestamp", ".cache/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    manifest = folder_manifest("mine", folder, f"file:{folder}", "own")
    assert (manifest.kind, manifest.files, manifest.bytes) == ("folder", 2, 14)
    expected = hashlib.sha256(b"a/1.png\x007\nb/2.png\x007\n").hexdigest()
    assert manifest.sha256 == expected

    (folder / "a/1.png").rename(folder / "a/3.png")
    assert folder_manifest("mine", folder, f"file:{folder}", "own").sha256 != manifest.sha256


def test_linked_folders_count_once_even_in_a_circle(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "1.png").write_bytes(b"1")
    (elsewhere / "back").symlink_to(folder)
    (folder / "a").symlink_to(elsewhere)
    assert folder_manifest("mine", folder, "file:x", "own").files == 1


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"mine: cannot read the folder: .*/no: No such file"):
        folder_manifest("mine", tmp_path / "no", "file:x", "own")


# The lock file


def test_the_first_record_holds(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "config.lock.json")
    assert lock.get("w") is None
    first = Locked("a" * 64, 3, "https://a.org/w")
    lock.record("w", first)
    lock.record("w", first)
    assert LockFile(lock.path).get("w") == first
    with pytest.raises(
        GenclassError, match=r"w: sha256 b+, but .*config\.lock\.json holds a+: .* delete the entry"
    ):
        lock.record("w", Locked("b" * 64, 3, "https://a.org/w"))


def test_records_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.lock.json"

    def record(number: int) -> None:
        LockFile(path).record(f"w{number:02}", Locked("a" * 64, number, "file:x"))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(json.loads(path.read_text())) == [f"w{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "<<<<<<< HEAD", "[]", '{"w": 1}', '{"w": {"sha": 1}}'),
        '{"w": {"sha256": "x", "bytes": 1, "place": "file:x"}}',
    ],
)
def test_a_damaged_lock_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.lock.json"
    path.write_text(text)
    with pytest.raises(GenclassError, match=r"config\.lock\.json is no lock file .*: mend it"):
        LockFile(path).get("w")
