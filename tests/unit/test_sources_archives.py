"""Archives: unpacked once and whole, and never outside their folder."""

from __future__ import annotations

import base64
import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from genclass.errors import GenclassError
from genclass.sources import Progress, unpack, why_no_archive
from tests.support.archives import contents, make_tar, make_zip

IMAGES = {"n01/a.jpg": b"one", "n01/b.jpg": b"two", "n02/a.jpg": b"three"}

# `zip -P objectnetisatestset -r locked.zip n01 n02`; Python cannot encrypt.
LOCKED = base64.b64decode(
    "UEsDBAoAAAAAAAgeeF0AAAAAAAAAAAAAAAAEABwAbjAxL1VUCQADAAkFawAJBWt1eAsAAQQAAAAABAAAAABQSwME"
    "CgAJAAAACB54Xb2aS3gaAAAADgAAAAkAHABuMDEvYS5wbmdVVAkAAwAJBWsACQVrdXgLAAEEAAAAAAQAAAAA+VWh"
    "zlPB/H7IA3Xs2obf8Vj61FMyN0E2IFBQSwcIvZpLeBoAAAAOAAAAUEsDBAoAAAAAAAgeeF0AAAAAAAAAAAAAAAAE"
    "ABwAbjAyL1VUCQADAAkFawAJBWt1eAsAAQQAAAAABAAAAABQSwMECgAJAAAACB54XYWs5PkYAAAADAAAAAwAHABu"
    "MDIvYlsxXS5wbmdVVAkAAwAJBWsACQVrdXgLAAEEAAAAAAQAAAAABai00sJzgrLNXO00h8G8clCrJen7q4hHUEsH"
    "CIWs5PkYAAAADAAAAFBLAQIeAwoAAAAAAAgeeF0AAAAAAAAAAAAAAAAEABgAAAAAAAAAEADtQQAAAABuMDEvVVQF"
    "AAMACQVrdXgLAAEEAAAAAAQAAAAAUEsBAh4DCgAJAAAACB54Xb2aS3gaAAAADgAAAAkAGAAAAAAAAQAAAKSBPgAA"
    "AG4wMS9hLnBuZ1VUBQADAAkFa3V4CwABBAAAAAAEAAAAAFBLAQIeAwoAAAAAAAgeeF0AAAAAAAAAAAAAAAAEABgA"
    "AAAAAAAAEADtQasAAABuMDIvVVQFAAMACQVrdXgLAAEEAAAAAAQAAAAAUEsBAh4DCgAJAAAACB54XYWs5PkYAAAA"
    "DAAAAAwAGAAAAAAAAQAAAKSB6QAAAG4wMi9iWzFdLnBuZ1VUBQADAAkFa3V4CwABBAAAAAAEAAAAAFBLBQYAAAAA"
    "BAAEADUBAABXAQAAAAA="
)


def only_these(folder: Path, *names: str) -> None:
    """Nothing else lies there, but for lock files."""
    there = {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}
    assert there == set(names)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_each_format_is_unpacked(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, IMAGES)
    folder = unpack(archive, tmp_path / "sets" / "images")
    assert contents(folder) == IMAGES
    only_these(tmp_path / "sets", "images")


def test_a_flat_tar_and_names_that_begin_with_a_dot_slash(tmp_path: Path) -> None:
    flat = {"./ILSVRC2012_val_00000001.JPEG": b"1", "./ILSVRC2012_val_00000002.JPEG": b"2"}
    folder = unpack(make_tar(tmp_path / "val.tar", flat), tmp_path / "val")
    assert contents(folder) == {name[2:]: data for name, data in flat.items()}


@pytest.mark.parametrize("name", ["c.tar", "c.zip"])
def test_only_some_folders(tmp_path: Path, name: str) -> None:
    files = {
        f"{kind}/{severity}/n01/a.jpg": f"{kind}{severity}".encode()
        for kind in ("gaussian_noise", "shot_noise")
        for severity in (1, 3, 31)
    }
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, files)
    folder = unpack(archive, tmp_path / "c", only=["gaussian_noise/3"])
    assert contents(folder) == {"gaussian_noise/3/n01/a.jpg": b"gaussian_noise3"}

    # Another choice replaces it.
    unpack(archive, tmp_path / "c", only=["shot_noise/1", "shot_noise/3/"])
    assert sorted(contents(folder)) == ["shot_noise/1/n01/a.jpg", "shot_noise/3/n01/a.jpg"]
    only_these(tmp_path, "c", name)

    with pytest.raises(
        GenclassError, match=rf"{name}: nothing in it is called fog/3: not unpacked"
    ):
        unpack(archive, tmp_path / "d", only=["fog/3", "shot_noise/1"])
    only_these(tmp_path, "c", name)


def test_a_second_time_does_nothing(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    folder = unpack(archive, tmp_path / "images")
    inode = (folder / "n01/a.jpg").stat().st_ino
    unpack(archive, folder)
    assert (folder / "n01/a.jpg").stat().st_ino == inode

    make_tar(archive, {"n03/c.jpg": b"new"})
    unpack(archive, folder)
    assert contents(folder) == {"n03/c.jpg": b"new"}


def test_a_known_checksum_spares_reading_the_archive(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    folder = unpack(archive, tmp_path / "images", sha256="5" * 64)
    archive.unlink()
    assert unpack(archive, folder, sha256="5" * 64) == folder


def test_a_folder_of_the_users_is_left_alone(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").touch()
    with pytest.raises(GenclassError, match=r"images is there and no archive was unpacked into it"):
        unpack(archive, tmp_path / "images")
    assert list(contents(tmp_path / "images")) == ["mine.jpg"]


def test_what_is_no_whole_archive_is_known_without_unpacking_it(tmp_path: Path) -> None:
    for name in ("x.tar", "x.tar.gz", "x.zip"):
        make = make_zip if name.endswith("zip") else make_tar
        archive = make(tmp_path / name, IMAGES)
        assert why_no_archive(archive) is None
        whole = archive.read_bytes()
        for length in (0, 40, len(whole) - 40 if "gz" in name else len(whole) // 7):
            archive.write_bytes(whole[:length])
            assert why_no_archive(archive) is not None, (name, length)
    (tmp_path / "x.tar").write_bytes(b"<html>" + bytes(4000))
    assert str(why_no_archive(tmp_path / "x.tar")).startswith("damaged, or neither tar nor zip")
    assert why_no_archive(make_zip(tmp_path / "empty.zip", {})) == "it holds no file"


# Danger


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "name",
    ["../evil", "n01/../../evil", "/etc/evil", "..", "a\\..\\evil", "\\evil", "./.././evil"],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_outside_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    archive = make(tmp_path / f"x.{kind}", {**IMAGES, name: b"evil"})
    before = sorted(tmp_path.parent.rglob("evil"))
    with pytest.raises(GenclassError) as error:
        unpack(archive, tmp_path / "sets" / "images")
    said = name.replace("\\", "/") if kind == "zip" else name
    assert str(error.value) == f"{archive}: the member {said!r} leads outside: not unpacked"
    only_these(tmp_path / "sets")
    assert sorted(tmp_path.parent.rglob("evil")) == before
    assert not Path("/etc/evil").exists()


def test_a_zip_with_backslashes_is_unpacked_into_folders(tmp_path: Path) -> None:
    names = {name.replace("/", "\\"): data for name, data in IMAGES.items()}
    archive = make_zip(tmp_path / "x.zip", names | {"n03\\": b""})
    assert contents(unpack(archive, tmp_path / "all")) == IMAGES
    assert set(contents(unpack(archive, tmp_path / "one", only=["n02"]))) == {"n02/a.jpg"}
    for name in ("C:\\evil", "\\evil"):
        evil = make_zip(tmp_path / "evil.zip", {name: b"evil"})
        with pytest.raises(GenclassError, match="the member '/evil' leads outside"):
            unpack(evil, tmp_path / "evil")


def test_a_tar_with_backslashes_says_so(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"n01\\a.jpg": b"one"})
    with pytest.raises(GenclassError, match=r"the member 'n01.*a.jpg' has a backslash or NUL"):
        unpack(archive, tmp_path / "images")


@pytest.mark.parametrize(
    ("member", "what"),
    [
        (link("n01/x", "/etc/passwd", tarfile.SYMTYPE), "a link or device to '/etc/passwd'"),
        (link("n01/x", "../../y", tarfile.LNKTYPE), "a link or device to '../../y'"),
        (link("n01/x", "a.jpg", tarfile.SYMTYPE), "a link or device to 'a.jpg'"),
        (link("n01/x", "", tarfile.CHRTYPE), "a link or device"),
        (link("n01/x", "", tarfile.FIFOTYPE), "a link or device"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, member: tarfile.TarInfo, what: str) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES, [member])
    with pytest.raises(GenclassError) as error:
        unpack(archive, tmp_path / "images")
    assert str(error.value) == f"{archive}: the member 'n01/x' is {what}: not unpacked"
    only_these(tmp_path, "x.tar")


def test_a_folder_that_is_a_link_cannot_be_written_through(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(link("out", str(tmp_path), tarfile.SYMTYPE))
        member = tarfile.TarInfo("out/evil")
        tar.addfile(member, io.BytesIO())
    with pytest.raises(GenclassError, match="the member 'out' is a link or device"):
        unpack(archive, tmp_path / "images")
    assert not (tmp_path / "evil").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        member = zipfile.ZipInfo("n01/x")
        member.external_attr = 0o120777 << 16
        packed.writestr(member, "/etc/passwd")
    with pytest.raises(GenclassError, match=r"x\.zip: the member 'n01/x' is a link or a device"):
        unpack(archive, tmp_path / "images")


# Damage


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_a_truncated_archive_is_said(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {f"n01/{i}.jpg": os.urandom(3000) for i in range(9)})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(GenclassError, match=rf"{name}: damaged, or neither tar nor zip \(.+\)"):
        unpack(archive, tmp_path / "images")
    only_these(tmp_path, name)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    data = bytearray(archive.read_bytes())
    data[1024:1030] = b"broken"  # the second member's header
    archive.write_bytes(data)
    with pytest.raises(GenclassError, match=r"x\.tar: damaged at byte 1024: not unpacked"):
        unpack(archive, tmp_path / "images")


def test_a_wrong_gzip_checksum_is_said(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", IMAGES)
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1
    archive.write_bytes(data)
    with pytest.raises(GenclassError, match=r"x\.tar\.gz: damaged, .*CRC check failed"):
        unpack(archive, tmp_path / "images")


def test_a_wrong_zip_checksum_is_said(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("a.jpg", b"pixels")
    archive.write_bytes(archive.read_bytes().replace(b"pixels", b"PIXELS"))
    with pytest.raises(GenclassError, match=r"x\.zip: damaged, .*Bad CRC-32"):
        unpack(archive, tmp_path / "images")


@pytest.mark.parametrize(
    "data", [b"", b"<html>", gzip.compress(b"text", mtime=0)], ids=["empty", "page", "gz"]
)
def test_what_is_no_archive_is_said(tmp_path: Path, data: bytes) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(data)
    with pytest.raises(GenclassError, match=r"x\.tar: damaged, or neither tar nor zip"):
        unpack(archive, tmp_path / "images")


def test_a_missing_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"cannot unpack .*x\.tar: .*x\.tar: No such file"):
        unpack(tmp_path / "x.tar", tmp_path / "images")


def test_an_empty_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"x\.tar: it holds no file: not unpacked"):
        unpack(make_tar(tmp_path / "x.tar", {}), tmp_path / "images")


# Locked zips, as ObjectNet


@pytest.mark.parametrize("program", ["unzip", "python"])
def test_a_locked_zip(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if program == "python":
        monkeypatch.setenv("PATH", str(tmp_path))
    archive = tmp_path / "locked.zip"
    archive.write_bytes(LOCKED)
    quiet = Progress(io.StringIO())

    folder = unpack(archive, tmp_path / "a", password="objectnetisatestset", progress=quiet)
    assert contents(folder) == {"n01/a.png": b"A red border.\n", "n02/b[1].png": b"Two pixels.\n"}
    folder = unpack(
        archive, tmp_path / "b", password="objectnetisatestset", only=["n02"], progress=quiet
    )
    assert list(contents(folder)) == ["n02/b[1].png"]
    folder = unpack(
        archive,
        tmp_path / "c",
        password="objectnetisatestset",
        only=["n02/b[1].png"],
        progress=quiet,
    )
    assert list(contents(folder)) == ["n02/b[1].png"]

    with pytest.raises(GenclassError, match=r"locked\.zip: .*password.*: not unpacked"):
        unpack(archive, tmp_path / "d", password="guess", progress=quiet)
    with pytest.raises(GenclassError, match=r"it is encrypted: give its password in the config"):
        unpack(archive, tmp_path / "d", progress=quiet)
    assert not (tmp_path / "d").exists()


# Kills, twins and full disks

SLOWLY = """
import shutil, sys, time
from pathlib import Path
from genclass.sources import unpack
write = shutil.copyfileobj
def slowly(*args):
    write(*args)
    print("one", flush=True)
    time.sleep(float(sys.argv[3]))
shutil.copyfileobj = slowly
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def start(archive: Path, folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, archive, folder, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_leaves_nothing_that_counts(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    process = start(archive, tmp_path / "images", 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "images").exists()

    assert contents(unpack(archive, tmp_path / "images")) == IMAGES
    only_these(tmp_path, "x.tar", "images")


def test_two_at_once_unpack_once(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", IMAGES)
    processes = [start(archive, tmp_path / "images", 0.3) for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted(out for out, _ in outputs) == ["", "one\n" * 3]
    assert contents(tmp_path / "images") == IMAGES


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_a_full_disk_is_one_line(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {f"n01/{i}.jpg": bytes(100_000) for i in range(20)})
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a small disk here")
    try:
        with pytest.raises(
            GenclassError, match=rf"cannot unpack .*{name}: no space left in .*disk"
        ):
            unpack(archive, disk / "images")
        only_these(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
