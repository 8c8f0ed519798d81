"""The workflow on a real SLURM controller: the same bytes, whatever happens to its jobs."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from genclass.config import parse_config
from genclass.evaluation.status import status
from tests.slurm import cluster
from tests.slurm.cluster import Job
from tests.slurm.conftest import TARGETS
from tests.workflow.project import Project

pytestmark = pytest.mark.slurm
SHARDS = 6  # of random on noise and stripes


def digests(project: Project) -> dict[str, str]:
    """Of the merged scores."""
    return {name: json.loads((project.folder / name).read_text())["sha256"] for name in TARGETS}


def running(project: Project) -> list[Job]:
    """The jobs that have scored at least one image."""
    return [
        job
        for job in cluster.jobs(project)
        if job.state == "RUNNING" and cluster.scored(project, job)
    ]


def test_a_run_on_the_cluster_gives_the_bytes_of_a_local_run(
    project: Project, local: Project
) -> None:
    run = cluster.start(project, *TARGETS)
    cluster.wait_until(lambda: cluster.jobs(project), "job")
    first = cluster.jobs(project)[0]
    details = cluster.command("scontrol", "show", "job", first.id)
    assert "TresPerJob=gres:gpu:1" in details
    assert "Partition=gpu" in details and "Requeue=1" in details and "mem=900M" in details
    assert f"Comment=rule_evaluate_wildcards_random_{first.dataset}_{first.shard}" in details
    cluster.wait_until(lambda: running(project), "running job")
    states = {cell.dataset: cell for cell in status(parse_config(project.config, "config"))}
    assert states  # of the working directory: nothing of it is there
    assert run.poll() is None
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project) == digests(local)
    log = cluster.log_of(project, first)
    assert f"SLURM job {first.id}" in log
    assert "GPUs      1 asked for, 1 visible: " in log
    again = cluster.start(project, *TARGETS)
    assert "Nothing to be done" in cluster.finish(project, again)


def test_gpus_by_gres_and_several_for_one_job(project: Project, local: Project) -> None:
    cluster.edit_profile(project, "    gpu: 1 ", "    gpu: 0 ")
    cluster.edit_profile(project, "    # gpu: 0 ", "    # ")
    cluster.edit_profile(project, "    # gres: \"'gpu:1'\"", "    gres: \"'gpu:2'\"")
    run = cluster.start(project, *TARGETS)
    cluster.wait_until(lambda: cluster.jobs(project), "job")
    first = cluster.jobs(project)[0]
    assert "TresPerNode=gres:gpu:2" in cluster.command("scontrol", "show", "job", first.id)
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project) == digests(local)
    assert "GPUs      2 asked for, 2 visible: 0, 1" in cluster.log_of(project, first)


def test_an_edit_of_the_config_changes_nothing_that_was_submitted(
    project: Project, local: Project
) -> None:
    for node in cluster.NODES:
        cluster.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    run = cluster.start(project, *TARGETS)
    cluster.wait_until(lambda: len(cluster.jobs(project)) == SHARDS, "waiting jobs")
    assert {job.state for job in cluster.jobs(project)} == {"PENDING"}
    # Jobs that read this would not even start.
    (project.folder / "config.yaml").write_text("results: elsewhere\n")
    for node in cluster.NODES:
        cluster.command("scontrol", "update", f"nodename={node}", "state=resume")
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project) == digests(local)


def cancel(job: Job) -> None:
    cluster.command("scancel", job.id)


def warn(job: Job) -> None:
    cluster.command("scancel", "--signal=USR1", job.id)


def kill_scoring(job: Job) -> None:
    os.kill(job.scoring(), signal.SIGKILL)


def stall(job: Job) -> None:
    """It does not go on; its time limit (a minute) ends it."""
    os.kill(job.scoring(), signal.SIGSTOP)


def fail_node(job: Job) -> None:
    cluster.kill_node(job.node)


def preempt(job: Job) -> None:
    """Another job takes its node."""
    wanted = ("--partition=urgent", "--cpus-per-task=4", f"--nodelist={job.node}")
    cluster.command("sbatch", *wanted, "--output=/dev/null", "--wrap=sleep 5")


def test_whatever_happens_to_jobs_the_bytes_are_the_same(project: Project, local: Project) -> None:
    cluster.edit_profile(project, "cpus_per_task: 1 ", "cpus_per_task: 4 ")  # one job a node
    cluster.edit_profile(project, "  evaluate:\n", "  evaluate:\n    runtime: 1 * attempt\n")
    # First what takes longest to be noticed.
    blows: list[Callable[[Job], None]] = [stall, fail_node, preempt, kill_scoring, cancel, warn]
    hit: dict[tuple[str, str], tuple[Job, Callable[[Job], None], int]] = {}
    run = cluster.start(project, *TARGETS)

    def deal() -> bool:
        for job in running(project):
            if (job.dataset, job.shard) not in hit and blows:
                blow = blows.pop(0)
                hit[job.dataset, job.shard] = (job, blow, cluster.scored(project, job))
                blow(job)
        return not blows or run.poll() is not None

    cluster.wait_until(deal, "chance to hit every job")
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert len(hit) == SHARDS
    assert digests(project) == digests(local)
    for state in ("TIMEOUT", "FAILED", "CANCELLED"):
        assert f"SLURM status is: '{state}'" in output
    for job, blow, images in hit.values():
        log = cluster.log_of(project, job)
        resumed = int(log.split(f"{job.shard}: ")[1].split("/")[0])
        assert resumed >= images, f"{blow.__name__}: {images} were scored before:\n{log}"


def test_snakemake_killed_and_started_again_while_its_jobs_run(
    project: Project, local: Project
) -> None:
    run = cluster.start(project, *TARGETS)
    cluster.wait_until(lambda: len(running(project)) >= 3, "running jobs")
    run.kill()
    run.wait()
    before = {job.id for job in cluster.jobs(project)}
    project.snakemake("--unlock")
    again = cluster.start(project, *TARGETS)
    cluster.wait_until(lambda: {job.id for job in cluster.jobs(project)} - before, "second jobs")
    output = cluster.finish(project, again)
    assert again.returncode == 0, output
    assert digests(project) == digests(local)
    logs = [path.read_text() for path in (project.folder / "results/logs/evaluate").rglob("*.log")]
    assert len(logs) == SHARDS
    assert any("another job works on this shard" in log for log in logs)
    assert sum("is there already" in log for log in logs) >= 3  # what the first jobs had finished
    assert not list((project.folder / "results/partial").rglob("*.partial"))


def test_what_always_fails_leaves_the_rest_and_a_report_that_says_so(
    project: Project, local: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.edit_profile(project, "retries: 3 ", "retries: 1 ")
    project.config["models"]["random"]["trials"] = 4
    project.config["shards"] = {"images": 8}
    project.save()
    next((project.folder / "given/stripes/digit-0").glob("*.png")).write_bytes(b"no image")
    run = cluster.start(project)
    cluster.finish(project, run)
    assert run.returncode != 0
    page = (project.folder / "results/report/report.html").read_text()
    assert "not evaluated" in page
    metrics = project.folder / "results/metrics"
    found = sorted(path.relative_to(metrics).as_posix() for path in metrics.rglob("*.json"))
    assert found == ["random/noise.json", "raster/noise.json"]
    monkeypatch.chdir(project.folder)
    cells = {(c.model, c.dataset): c for c in status(parse_config(project.config, "config"))}
    assert cells["random", "noise"].done == 2
    ((log, message),) = cells["random", "stripes"].failed
    assert log == Path("results/logs/evaluate/random/stripes/images-00000-00007.trials-000-003.log")
    assert message.startswith("error: given/stripes/digit-0/")
    shown = subprocess.run(
        [Path(os.sys.executable).parent / "genclass", "status", "--config", "config.yaml"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"{log}: error: given/stripes/" in shown
