"""The workflow on a real SLURM controller: the same bytes, whatever happens to its jobs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genclass.config import parse_config
from genclass.planning.rates import Rate, Rates
from genclass.planning.status import status
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from tests.support import cluster
from tests.support.cluster import TARGETS, Job
from tests.support.project import Project

pytestmark = pytest.mark.slurm
NOISE, STRIPES = TARGETS
SHARDS = 3  # of each of them


def digests(project: Project, *targets: str) -> list[str]:
    """Of the merged scores."""
    return [json.loads((project.folder / target).read_text())["sha256"] for target in targets]


def running(project: Project) -> list[Job]:
    """The jobs that have scored at least one image."""
    return [
        job
        for job in cluster.jobs(project)
        if job.state == "RUNNING" and cluster.scored(project, job)
    ]


def genclass(project: Project, *arguments: str) -> str:
    """What `genclass` says in the project's folder."""
    program = Path(sys.executable).parent / "genclass"
    return subprocess.run(
        [program, *arguments, "--config", "config.yaml"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_run_on_the_cluster_gives_the_bytes_of_a_local_run(
    project: Project, local: Project
) -> None:
    run = cluster.start(project, NOISE)
    cluster.wait_until(lambda: cluster.jobs(project), "job")
    first = cluster.jobs(project)[0]
    details = cluster.command("scontrol", "show", "job", first.id)
    assert "JobName=genclass_" in details
    assert f"Comment=rule_evaluate_wildcards_random_noise_{first.shard}" in details
    assert "TresPerJob=gres:gpu:1" in details
    assert "Partition=gpu" in details and "Requeue=1" in details
    held: list[str] = []

    def hold() -> bool:
        """Stop a job in the middle of its work, so that it is there when the status is asked."""
        for job in running(project)[:1]:
            cluster.command("scontrol", "suspend", job.id)
            held.append(job.id)
        return bool(held)

    cluster.wait_until(hold, "running job")
    shown = genclass(project, "status")
    assert run.poll() is None
    cluster.command("scontrol", "resume", *held)
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in shown.splitlines()}
    done, busy, waiting, failed = rows["random", "noise"][:4]
    assert int(busy) >= 1 and failed == "0"
    assert int(done.split("/")[0]) + int(busy) + int(waiting) == SHARDS
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project, NOISE) == digests(local, NOISE)
    log = cluster.log_of(project, first)
    assert f"SLURM job {first.id}" in log
    assert "GPUs      1 asked for, 1 visible: " in log
    again = cluster.start(project, NOISE)
    assert "Nothing to be done" in cluster.finish(project, again)


def test_gpus_by_gres_and_several_for_one_job(project: Project, local: Project) -> None:
    project.config["shards"] = {"images": 12}
    project.save()
    cluster.edit_profile(project, "    gpu: 1 ", "    gpu: 0 ")
    cluster.edit_profile(project, "    # gpu: 0 ", "    # ")
    cluster.edit_profile(project, "    # gres: \"'gpu:1'\"", "    gres: \"'gpu:2'\"")
    run = cluster.start(project, NOISE)
    cluster.wait_until(lambda: cluster.jobs(project), "job")
    first = cluster.jobs(project)[0]
    assert "TresPerNode=gres:gpu:2" in cluster.command("scontrol", "show", "job", first.id)
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project, NOISE) == digests(local, NOISE)
    assert "GPUs      2 asked for, 2 visible: 0, 1" in cluster.log_of(project, first)


def test_an_edit_of_the_config_changes_nothing_that_was_submitted(
    project: Project, local: Project
) -> None:
    project.config["shards"] = {"images": 6}
    project.save()
    for node in cluster.NODES:
        cluster.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    run = cluster.start(project, NOISE)
    cluster.wait_until(lambda: len(cluster.jobs(project)) == 2, "waiting jobs")
    assert {job.state for job in cluster.jobs(project)} == {"PENDING"}
    # Jobs that read this would not even start.
    (project.folder / "config.yaml").write_text("results: elsewhere\n")
    for node in cluster.NODES:
        cluster.command("scontrol", "update", f"nodename={node}", "state=resume")
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project, NOISE) == digests(local, NOISE)


def score_files(project: Project) -> dict[str, list[ScoreFile]]:
    """By dataset, those of the model that takes long, in the order of their images."""
    folder = project.folder / "results/scores/random"
    return {
        one.name: [ScoreFile.read(path) for path in sorted(one.glob("images-*.safetensors"))]
        for one in folder.iterdir()
    }


def test_a_run_of_hours_is_stopped_and_goes_on(project: Project, local: Project) -> None:
    whole = {name: file for name, (file,) in score_files(local).items()}
    # Four times as slow as here: on a busy machine, too, what was allotted fits into the hours.
    seconds = 4 * sum(file.header.seconds for file in whole.values())
    passes = sum(file.header.forward_passes for file in whole.values())
    told = {"random": Rate(passes / seconds), "raster": Rate(1000.0)}
    Rates("this machine", "told", told).write(project.folder / "results/calibration.json")
    for dataset in project.config["datasets"].values():
        dataset["classes"] = 3  # a budget asks for their number before it looks at images
    project.config["hours"] = seconds / 3600
    project.save()
    assert project.exit_code("budget") == 0
    stopped = cluster.start(project, "measured")
    cluster.wait_until(lambda: running(project), "running job")
    stopped.send_signal(signal.SIGTERM)
    cluster.finish(project, stopped)
    for job in cluster.jobs(project):
        cancel(job)
    cluster.wait_until(lambda: not cluster.jobs(project), "end of cancelled jobs")
    # What is unfinished is neither lost nor counted twice: the run is not at its end.
    assert project.exit_code("budget") == 0
    for _ in range(10):
        run = cluster.start(project, "measured")
        output = cluster.finish(project, run)
        assert run.returncode == 0, output
        if project.exit_code("budget") == 3:
            break
    else:
        pytest.fail("the run of hours does not end")
    found = score_files(project)
    assert found
    for name, files in found.items():
        for file in files:
            rows = Shard.from_name(file.header.shard).images
            expected = whole[name].scores[rows.start : rows.stop]
            assert file.scores.tobytes() == expected.tobytes()
    del project.config["hours"]
    project.save()
    assert project.exit_code("budget") == 3
    run = cluster.start(project, *TARGETS)
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert digests(project, *TARGETS) == digests(local, *TARGETS)


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


# What is done to a job that scores, and how SLURM calls its end. First what takes longest.
BLOWS: list[tuple[Callable[[Job], None], str]] = [
    (stall, "TIMEOUT"),
    (fail_node, "NODE_FAIL"),
    (preempt, "PREEMPTED"),
    (kill_scoring, "FAILED"),
    (cancel, "CANCELLED"),
    (warn, "FAILED"),
]


def test_whatever_happens_to_jobs_the_bytes_are_the_same(project: Project, local: Project) -> None:
    cluster.edit_profile(project, "cpus_per_task: 1 ", "cpus_per_task: 4 ")  # one job a node
    cluster.edit_profile(
        project, "  evaluate: &gpus\n", "  evaluate: &gpus\n    runtime: 1 * attempt\n"
    )
    blows = list(BLOWS)
    hit: dict[tuple[str, str], tuple[Job, str, int]] = {}
    run = cluster.start(project, *TARGETS)

    def deal() -> bool:
        for job in running(project):
            if blows and (job.dataset, job.shard) not in hit:
                blow, end = blows.pop(0)
                hit[job.dataset, job.shard] = (job, end, cluster.scored(project, job))
                blow(job)
        return not blows or run.poll() is not None

    cluster.wait_until(deal, "chance to hit every job")
    output = cluster.finish(project, run)
    assert run.returncode == 0, output
    assert len(hit) == len(BLOWS)
    assert digests(project, *TARGETS) == digests(local, *TARGETS)
    history = cluster.history(project)
    for job, end, images in hit.values():
        assert end in [state for number, state, _, _ in history if number == job.id], (job, history)
        log = cluster.log_of(project, job)  # of the last attempt
        resumed = int(log.split(f"{job.shard}: ")[1].split("/")[0])
        assert resumed >= images, f"{end}: {images} were scored before:\n{log}"
    # The second attempt is given twice as much of both; what SLURM itself runs again, the same.
    given = {(memory, minutes) for _, _, memory, minutes in history}
    memory, minutes = min(given)
    assert memory > 8000 and minutes == 1
    assert (2 * memory, 2) in given


def test_snakemake_killed_and_started_again_while_its_jobs_run(
    project: Project, local: Project
) -> None:
    run = cluster.start(project, NOISE)
    cluster.wait_until(lambda: len(running(project)) == SHARDS, "running jobs")
    first = cluster.jobs(project)
    scoring = [job.scoring() for job in first]
    for pid in scoring:  # so that they do not end before the second ones begin
        os.kill(pid, signal.SIGSTOP)
    run.kill()
    run.wait()
    project.snakemake("--unlock")
    again = cluster.start(project, NOISE)

    def second_jobs_wait() -> bool:
        logs = [cluster.log_of(project, job) for job in first]
        return all("another job works on this shard: waiting for it" in log for log in logs)

    cluster.wait_until(second_jobs_wait, "second jobs")
    for pid in scoring:
        os.kill(pid, signal.SIGCONT)
    output = cluster.finish(project, again)
    assert again.returncode == 0, output
    assert digests(project, NOISE) == digests(local, NOISE)
    for job in first:  # it scored what was left, and the second one found that
        assert "is there already" in cluster.log_of(project, job)
    assert not list((project.folder / "results/partial").rglob("*.partial"))


def test_what_always_fails_leaves_the_rest_and_a_report_that_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.edit_profile(project, "retries: 3 ", "retries: 1 ")
    project.config["models"]["random"]["trials"] = 4
    project.config["shards"] = {"images": 12}
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
    assert cells["random", "noise"].done == 1
    ((log, message),) = cells["random", "stripes"].failed
    assert log == Path("results/logs/evaluate/random/stripes/images-00000-00011.trials-000-003.log")
    assert message.startswith("error: given/stripes/digit-0/")
    folders = project.folder.glob(".snakemake/slurm_logs/rule_evaluate/random_stripes_*")
    assert [len(list(folder.glob("*.log"))) for folder in folders] == [2]  # it was tried twice
    assert f"{log}: error: given/stripes/" in genclass(project, "status")
