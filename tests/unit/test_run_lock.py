"""A dead run's lock goes by itself where it is safe; else the lines to type are said."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from genclass.jobs.run_lock import release_dead, sign


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The folder of a lock whose process has ended."""
    hold(tmp_path)
    process = subprocess.Popen(["true"])
    process.wait()
    change(tmp_path, pid=process.pid)
    return tmp_path


def hold(folder: Path, cluster: bool = False) -> None:
    locks = [folder / "0.input.lock", folder / "0.output.lock"]
    for lock in locks:
        lock.write_text("results/x\n")
    sign(locks, cluster)


def change(folder: Path, **keys: Any) -> None:
    path = folder / "0.owner.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_dead_local_runs_lock_is_removed(dead: Path) -> None:
    [line] = release_dead(dead)
    assert line.endswith("is dead: its lock is removed")
    assert list(dead.iterdir()) == []


def test_a_pid_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    hold(tmp_path)
    change(tmp_path, start=1)
    assert "is dead" in release_dead(tmp_path)[0]


def test_after_a_reboot_the_owner_is_dead(tmp_path: Path) -> None:
    hold(tmp_path)
    change(tmp_path, boot="another pid:[1]")
    assert "is dead" in release_dead(tmp_path)[0]


def test_a_living_runs_lock_stays(tmp_path: Path) -> None:
    hold(tmp_path)
    [line] = release_dead(tmp_path)
    assert line.startswith("locked by a run that is at work: process ") and str(os.getpid()) in line
    assert len(list(tmp_path.iterdir())) == 3


def test_on_a_cluster_jobs_outlive_it_and_the_lines_to_type_are_said(dead: Path) -> None:
    change(dead, cluster=True)
    [line] = release_dead(dead, "--unlock --configfile a.yaml")
    assert "squeue --me" in line
    assert line.endswith(".venv/bin/snakemake --unlock --configfile a.yaml")
    assert len(list(dead.iterdir())) == 3


def test_what_another_machine_holds_cannot_be_judged_here(dead: Path) -> None:
    change(dead, host="login2")
    [line] = release_dead(dead)
    assert "ssh login2 ps -p" in line and "--unlock" in line
    assert len(list(dead.iterdir())) == 3


@pytest.mark.parametrize("content", ["", "null", "{}", '{"pid": 1}'])
def test_a_note_that_is_none_removes_nothing(dead: Path, content: str) -> None:
    (dead / "0.owner.json").write_text(content)
    assert release_dead(dead) == []
    assert (dead / "0.output.lock").exists()
