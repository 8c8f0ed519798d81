"""What the tests do to the test cluster, and read off it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genclass.jobs.partial import peek
from tests.support.project import Project

SCRIPT = Path(__file__).parents[1] / "slurm" / "start_slurm.sh"
TARGETS = [f"results/merged/random/{dataset}.json" for dataset in ("noise", "stripes")]
NODES = ["node1", "node2", "node3", "node4"]
_runs: list[subprocess.Popen[bytes]] = []


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def wait_until(condition: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Poll; slowly enough not to disturb the jobs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still no {what}"
        time.sleep(0.5)


def restore() -> None:
    """Every node up again."""
    subprocess.run([SCRIPT], check=True, capture_output=True)


@dataclass(frozen=True)
class Job:
    """One job of a project, as squeue sees it."""

    id: str
    state: str
    node: str
    model: str
    dataset: str
    shard: str

    def pids(self) -> list[int]:
        """Its processes, without SLURM's own."""
        listed = subprocess.run(
            ["scontrol", "listpids", self.id, self.node], capture_output=True, text=True
        ).stdout
        return [int(line.split()[0]) for line in listed.splitlines()[1:]]

    def scoring(self) -> int:
        """The process that scores."""
        for pid in self.pids():
            words = _words(pid)
            if words[1:2] == ["workflow_scripts/evaluate.py"]:
                return pid
        raise AssertionError(f"{self} does not score now")


def jobs(project: Project) -> list[Job]:
    """Those that wait or run."""
    lines = command("squeue", "--noheader", "--format=%i|%T|%N|%Z|%k").splitlines()
    rows = [line.split("|", 4) for line in lines]
    found = []
    for number, state, node, folder, comment in rows:
        if Path(folder) == project.folder:
            _, _, _, model, dataset, shard = comment.split("_")  # rule_evaluate_wildcards_...
            found.append(Job(number, state, node, model, dataset, shard))
    return found


def history(project: Project) -> list[tuple[str, str, int, int]]:
    """Every start of a job: its id, how it ended, the memory (MB) and minutes it was given."""
    lines = command(
        *("sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", "--units=M"),
        "--format=JobID,State,ReqMem,TimelimitRaw,WorkDir",
    ).splitlines()
    rows = [line.split("|", 4) for line in lines]
    return [
        (number, state.split()[0], int(float(memory.rstrip("M"))), int(minutes))
        for number, state, memory, minutes, folder in rows
        if Path(folder) == project.folder
    ]


def scored(project: Project, job: Job) -> int:
    """How many images its partial file holds."""
    folder = project.folder / "results" / "partial" / job.model / job.dataset
    return max((peek(path)[0] for path in folder.glob(f"*/{job.shard}.partial")), default=0)


def kill_node(node: str) -> None:
    """As if its power failed: slurmd, its job steps and their processes, at once.

    That it is down the controller is told: it would find out within SlurmdTimeout, on a busy
    machine not before the time limit of the node's jobs.
    """
    running = command("squeue", "--noheader", "--format=%i", "--nodelist", node).split()
    steps = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if " ".join(_words(int(process.name))).startswith(
            tuple(f"slurmstepd: [{number}." for number in running)
        )
    ]
    processes = [pid for number in running for pid in Job(number, "", node, "", "", "").pids()]
    # First those that would tell the controller how the others ended.
    doomed = [int(Path(f"/run/slurm-lab/slurmd-{node}.pid").read_text()), *steps, *processes]
    for pid in doomed:
        if pid > 1:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    command("scontrol", "update", f"nodename={node}", "state=down", "reason=power")


def start(project: Project, *targets: str) -> subprocess.Popen[bytes]:
    """Snakemake under the profile, in the background; what it says is in `run.log`."""
    with (project.folder / "run.log").open("ab") as log:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", *targets),
                *("--profile", "profiles/slurm", "--configfile", "config.yaml"),
            ],
            cwd=project.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    _runs.append(run)
    return run


def finish(project: Project, run: subprocess.Popen[bytes], seconds: float = 900) -> str:
    """Wait for the end; what Snakemake said."""
    run.wait(seconds)
    return (project.folder / "run.log").read_text()


def clear() -> None:
    """End what a test that failed has left running."""
    while _runs:
        run = _runs.pop()
        run.kill()
        run.wait()
    if left := command("squeue", "--noheader", "--format=%i").split():
        restore()  # jobs of a node that is down do not end
        command("scancel", *left)
        wait_until(lambda: not command("squeue", "--noheader"), "end of cancelled jobs")


def edit_profile(project: Project, old: str, new: str) -> None:
    path = project.folder / "profiles/slurm/config.yaml"
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} in {path}"
    path.write_text(text.replace(old, new))


def log_of(project: Project, job: Job) -> str:
    """Nothing while another attempt waits for its node: Snakemake has removed the log then."""
    folder = project.folder / "results" / "logs" / "evaluate" / job.model / job.dataset
    try:
        return (folder / f"{job.shard}.log").read_text()
    except FileNotFoundError:
        return ""


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    except OSError:
        return []
