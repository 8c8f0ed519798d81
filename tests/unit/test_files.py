"""Files that are whole or not there, and one line for what a disk refuses."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genclass.errors import GenclassError
from genclass.files import (
    atomic_file,
    check_writable,
    exclusive,
    reading,
    write_atomically,
    write_json,
    writing,
)


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(GenclassError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def fails(number: int, name: str | None = None) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number), name)

    return fail


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bin"
    write_atomically(path, b"old")
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


KILLED = """
import sys, time
from genclass.files import atomic_file
with atomic_file(sys.argv[1]) as file:
    file.write(bytes(1000)); file.flush(); print("begun", flush=True); time.sleep(60)
"""


def begun(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def test_what_a_killed_process_left_is_swept_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    other = tmp_path / ".y.bin.0123abcd.tmp"
    other.write_bytes(b"of another output")
    killed, alive = begun(path), begun(path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 3
        write_atomically(path, b"new")
        left = {file.name for file in tmp_path.iterdir()} - {path.name, other.name}
        assert len(left) == 1  # another process is still writing that one
    finally:
        alive.kill()
        alive.wait()
    write_atomically(path, b"newer")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, other.name}


def test_many_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"

    def write(number: int) -> None:
        for _ in range(20):
            write_atomically(path, bytes([number]) * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 1000 and len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "x", b"x")
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    for name in ("x", "x.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_without_locks_files_are_written_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", fails(errno.ENOLCK))
    (tmp_path / ".x.0123abcd.tmp").write_bytes(b"")
    write_atomically(tmp_path / "x", b"x")
    assert {file.name for file in tmp_path.iterdir()} == {"x", ".x.0123abcd.tmp"}


def test_a_full_device_is_one_line() -> None:
    path = Path("/dev/full")
    assert refused(lambda: write_atomically(path, b"x" * 100_000)) == (
        "/dev/full: no space left in /dev: free some and rerun"
    )
    assert path.is_char_device()


def test_no_inodes_and_no_quota_are_said_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    monkeypatch.setattr("os.fsync", fails(errno.EDQUOT))
    text = refused(lambda: write_atomically(path, b"x"))
    assert text == f"{path}: the quota of {tmp_path} is used up: free some and rerun"
    monkeypatch.setattr("os.fsync", fails(errno.ENOSPC))
    found = list(os.statvfs(tmp_path))
    found[4], found[5], found[6], found[7] = 100, 1000, 0, 0  # blocks are there, inodes are not
    monkeypatch.setattr("os.statvfs", lambda folder: os.statvfs_result(found))
    text = refused(lambda: write_atomically(path, b"x"))
    assert text == (
        f"{path}: no inodes left in {tmp_path} (too many files; df -i): free some and rerun"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    monkeypatch.setattr("os.open", fails(errno.EROFS, str(path)))
    text = refused(lambda: write_atomically(path, b"x"))
    assert text == f"{path}: cannot be written: Read-only file system: {path}"


def test_a_folder_or_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    text = refused(lambda: write_atomically(tmp_path / "folder", b"x"))
    assert text == (f"{tmp_path}/folder: cannot be written: Is a directory: {tmp_path}/folder")
    (tmp_path / "file").write_bytes(b"")
    assert "file/x: cannot be written: " in refused(lambda: check_writable(tmp_path / "file" / "x"))
    assert "File name too long (the file system takes 255 bytes a name)" in refused(
        lambda: write_atomically(tmp_path / ("x" * 300), b"x")
    )


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    def read_while_writing() -> None:
        with writing(tmp_path / "out"):
            fails(errno.EACCES, "/elsewhere/in")()

    assert refused(read_while_writing) == (
        "/elsewhere/in: cannot be read: Permission denied (check its owner and mode: ls -ld)"
    )


def test_missing_and_forbidden_are_told_apart(tmp_path: Path) -> None:
    def read(number: int) -> None:
        with reading("a.json", "record", "delete it and rerun"):
            fails(number, "a.json")()

    assert refused(lambda: read(errno.ENOENT)) == (
        "a.json: the record is missing: delete it and rerun"
    )
    assert refused(lambda: read(errno.EACCES)) == (
        "a.json: cannot read the record: Permission denied (check its owner and mode: ls -ld)"
    )


def test_a_name_that_is_not_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "x.json", {"path": name, "title": "ü"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["path"] == name
    write_json(tmp_path / "x.json", {"title": "ü"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "title": "ü"\n}\n'


def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", fails(errno.ENOLCK))

    def lock() -> None:
        with exclusive(tmp_path / "x", print):
            raise AssertionError

    text = refused(lock)
    assert text.startswith(f"{tmp_path}: its file system takes no file locks ([Errno 37] No locks")
    assert "move this folder to another disk" in text
