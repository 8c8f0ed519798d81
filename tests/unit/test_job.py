"""A shard's job, started as the workflow does: its head, its GPUs, signals and progress."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genclass.config import Extent
from genclass.errors import GenclassError
from genclass.jobs.evaluate import ShardProgress
from genclass.jobs.partial import Partial, is_worked_on, peek
from genclass.scores.merge import merge
from genclass.scores.shards import Shard
from genclass.sources import Manifest
from genclass.text import digest
from tests.support.setting import IMAGES, Setting

REPOSITORY = Path(__file__).parents[2]
LONG = Shard(0, IMAGES, 0, 20000)  # longer than any test waits
MANY = Shard(0, IMAGES, 0, 20)


def start(
    setting: Setting, shard: Shard, *options: str, **environment: str
) -> subprocess.Popen[str]:
    """Its files under `setting.folder`; what it says is in `job.log` there."""
    folder = setting.folder
    setting.spec.write(folder / "spec.json")
    setting.images.write(folder / "images.csv")
    for name, path in {"images": folder / "images", **setting.files}.items():
        kind = "folder" if name == "images" else "file"
        manifest = Manifest(name, kind, str(path), "file:", 1, 1, digest(name), "MIT")
        manifest.write(folder / f"{name}.json")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "CUDA"))}
    with (folder / "job.log").open("w") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "workflow_scripts/evaluate.py", "--shard", shard.name),
                *("--spec", folder / "spec.json", "--image-list", folder / "images.csv"),
                *("--dataset", folder / "images.json", "--partial", folder / "partial"),
                *("--compiled", folder / "compiled"),
                *("--parts", *setting.files),
                *("--checkpoints", *(folder / f"{part}.json" for part in setting.files)),
                *("--class-batch", "2", "--threads", "1", "--output", output(setting, shard)),
                *options,
            ],
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=inherited | {"TMPDIR": str(folder)} | environment,
        )


def said(setting: Setting) -> str:
    return (setting.folder / "job.log").read_text()


def output(setting: Setting, shard: Shard) -> Path:
    return setting.folder / "made" / f"{shard.name}.safetensors"


def partial_file(setting: Setting, shard: Shard) -> Path:
    return setting.folder / "partial" / setting.spec.sha256 / f"{shard.name}.partial"


def wait_until(condition, what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still no {what}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        (
            ("--gpu", "1", "--device", "auto"),
            {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": ""},
            "error: GPUs: 1 asked for, 0 visible on HOST (CUDA_VISIBLE_DEVICES is ''): check the "
            "job's GPU request in the profile and the node's driver, or set device: cpu",
        ),
        (
            ("--gpu", "0", "--gres", "gpu:a100:4", "--device", "cuda"),
            {"CUDA_VISIBLE_DEVICES": "0,1"},
            "error: GPUs: 4 asked for, 2 visible on HOST (CUDA_VISIBLE_DEVICES is '0,1'): ",
        ),
        (
            ("--gpu", "1", "--gres", "gpu:1", "--device", "auto"),
            {},
            "error: the profile asks for GPUs twice, gpu=1 and gres=gpu:1: with gres, set gpu=0",
        ),
        (
            ("--gpu", "0", "--device", "cuda"),
            {},
            "error: device is cuda, but the job asks for no GPU: set its resource gpu",
        ),
    ],
    ids=["none", "too few", "twice", "forgotten"],
)
def test_wrong_gpus_are_said_before_a_checkpoint_is_looked_at(
    setting: Setting, options, environment, message: str
) -> None:
    setting.files["network"].unlink()  # looked at, it would be the error
    job = start(setting, MANY, *options, **environment)
    began = time.monotonic()
    assert job.wait(60) == 1
    assert time.monotonic() - began < 30  # a second or two, on a machine that is not busy
    assert said(setting).splitlines()[-1].startswith(message.replace("HOST", os.uname().nodename))


def test_the_head_says_where_and_on_what_a_job_runs(setting: Setting) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "CUDA_VISIBLE_DEVICES": "3"}
    job = start(setting, MANY, "--gpu", "1", "--device", "cpu", **environment)
    assert job.wait(300) == 0, said(setting)
    lines = {line[:9].strip(): line[10:] for line in said(setting).splitlines()}
    assert lines["shard"] == f"{MANY.name} of small"
    assert lines["spec"] == setting.spec.sha256
    assert lines["host"] == f"{os.uname().nodename} as n1, SLURM job 7"
    assert lines["device"] == "cpu"
    assert lines["GPUs"].startswith("1 asked for, 1 visible: 3")
    assert "driver" in lines
    assert "torch 2." in lines["versions"]


@pytest.mark.parametrize(("number", "gpus"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 2)])
def test_a_warned_job_ends_at_once_and_a_rerun_goes_on(
    setting: Setting, number: signal.Signals, gpus: int
) -> None:
    """A place to work at is a CPU here, and called a GPU."""
    options = ("--gpu", str(gpus), "--device", "cpu")
    visible = ",".join(map(str, range(gpus)))
    shard = Shard(0, IMAGES, 0, 400)
    job = start(setting, shard, *options, CUDA_VISIBLE_DEVICES=visible)
    partial = partial_file(setting, shard)
    wait_until(lambda: peek(partial)[0], "first image")
    assert is_worked_on(partial)
    began = time.monotonic()
    job.send_signal(number)
    assert job.wait(60) == 128 + number
    assert time.monotonic() - began < 20
    assert said(setting).endswith(f"{number.name}: stopping; a rerun goes on from here\n")
    assert not is_worked_on(partial)
    kept = peek(partial)[0]
    assert 0 < kept < IMAGES
    again = start(setting, shard, *options, CUDA_VISIBLE_DEVICES=visible)
    assert again.wait(300) == 0, said(setting)
    assert f"{shard.name}: {kept}/{IMAGES} images so far" in said(setting)


def test_a_warning_reaches_a_job_that_is_busy_outside_of_python(setting: Setting) -> None:
    """One image of this shard takes longer than anyone waits."""
    job = start(setting, LONG, "--gpu", "0", "--device", "cpu")
    wait_until(lambda: "images so far" in said(setting), "start of scoring")
    job.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert job.wait(60) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 20


def test_several_gpus_share_the_images_and_change_no_byte(setting: Setting) -> None:
    alone = setting.run(MANY)
    job = start(setting, MANY, "--gpu", "3", "--device", "cpu", CUDA_VISIBLE_DEVICES="4,5,6")
    assert job.wait(300) == 0, said(setting)
    for name, file in {"alone": alone, "shared": output(setting, MANY)}.items():
        merge(
            [file], setting.spec, setting.images, Extent(IMAGES, 20, IMAGES), setting.folder / name
        )
    assert (setting.folder / "alone").read_bytes() == (setting.folder / "shared").read_bytes()


def test_what_a_process_of_a_gpu_cannot_do_is_one_line(setting: Setting) -> None:
    (setting.folder / "images" / "3.png").write_bytes(b"no image")
    job = start(setting, MANY, "--gpu", "2", "--device", "cpu", CUDA_VISIBLE_DEVICES="0,1")
    assert job.wait(300) == 1
    last = said(setting).splitlines()[-1]
    assert last.startswith("error: ") and "3.png" in last


def test_progress_is_plain_lines_in_a_log(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("genclass.jobs.evaluate._LINE_SECONDS", 0.0)
    with ShardProgress("shard", 3, 5) as progress:
        progress.advance()
        progress.advance()
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "shard: 3/5 images so far"
    assert second.startswith("shard: 4/5 images, ") and second.endswith(" s left")
    assert third.startswith("shard: 5/5 images, ") and third.endswith(" images/s, 0 s left")


def test_no_locks_on_the_file_system_is_one_line(tmp_path: Path, monkeypatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    partial = Partial(tmp_path, "s" * 64, Shard(0, 3, 0, 2), classes=4)
    with pytest.raises(GenclassError, match="has no file locks"), partial:
        pass
