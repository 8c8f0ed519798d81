"""GPUs: which a job asks for and may use, and the leases on those of a workstation."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genclass.errors import GenclassError
from genclass.jobs import devices
from genclass.jobs.devices import check_gpus, lease, requested_gpus, visible_gpus

HOLD_ONE = """
import time
from genclass.jobs.devices import lease
with lease(["0", "1"], 1) as held:
    print(*held, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No SLURM job, and the leases in a folder of the test's own, for other processes as well."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.parametrize(
    ("gpu", "gres", "count"),
    [
        (0, "", 0),
        (2, "", 2),
        (0, "gpu", 1),
        (0, "gpu:2", 2),
        (0, "gpu:a100", 1),
        (0, "gpu:a100:4", 4),
        (0, "gpu:nvidia_h100_80gb_hbm3:2", 2),
        (1, "lscratch:100", 1),
    ],
)
def test_both_ways_to_ask_for_gpus(gpu: int, gres: str, count: int) -> None:
    assert requested_gpus(gpu, gres) == count


@pytest.mark.parametrize(
    ("value", "names"),
    [("", []), ("-1", []), ("NoDevFiles", []), ("0", ["0"]), ("2, GPU-ab", ["2", "GPU-ab"])],
)
def test_visible_gpus_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == names


def test_without_that_they_are_what_the_driver_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nprintf "0, NVIDIA X, 550.1\\n1, NVIDIA X, 550.1\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert visible_gpus() == []


def test_a_job_takes_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_gpus(1, ["0", "1"], "auto") == 1
    assert check_gpus(1, [], "auto") == 0  # a laptop
    assert check_gpus(1, [], "cpu") == 0
    with pytest.raises(GenclassError, match=r"2 asked for, 1 visible"):
        check_gpus(2, ["0"], "auto")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(GenclassError, match=r"1 asked for, 0 visible"):
        check_gpus(1, [], "auto")


def test_jobs_of_a_workstation_hold_different_gpus_and_wait_for_a_free_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [
        subprocess.Popen([sys.executable, "-c", HOLD_ONE], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    held = [other.stdout.readline().strip() for other in others if other.stdout]
    assert sorted(held) == ["0", "1"]

    def end_one(_: float) -> None:
        """As this process begins to wait, one of the others dies."""
        os.kill(others[1].pid, signal.SIGKILL)
        others[1].wait()

    monkeypatch.setattr(devices.time, "sleep", end_one)
    try:
        with lease(["0", "1"], 1) as mine:
            assert mine == [held[1]]
    finally:
        others[0].kill()
        others[0].wait()
    assert capsys.readouterr().out == "waiting for 1 of the GPUs 0, 1: others use them\n"


def test_several_gpus_are_held_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slept(Exception):
        pass

    def sleep(_: float) -> None:
        raise Slept

    monkeypatch.setattr(devices.time, "sleep", sleep)
    with lease(["0", "1", "2"], 2) as first:
        assert first == ["0", "1"]
        with pytest.raises(Slept), lease(["0", "1", "2"], 2):
            pass
        with lease(["0", "1", "2"], 1) as second:
            assert second == ["2"]
    with lease(["0", "1", "2"], 3) as every:
        assert every == ["0", "1", "2"]


@pytest.mark.parametrize("before", [None, "0,1,2"])
def test_what_is_leased_is_all_that_cuda_sees(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with lease(["0", "1", "2"], 2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    with lease(["0", "1", "2"], 0) as none:  # on the CPU
        assert none == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
