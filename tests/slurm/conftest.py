import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support import cluster
from tests.support.project import Project

TARGETS = [f"results/merged/random/{dataset}.json" for dataset in ("noise", "stripes")]


def no_cluster() -> str | None:
    """Why the tests cannot run. They kill nodes, so only the test cluster will do."""
    config = Path("/etc/slurm/slurm.conf")
    if not (config.is_file() and config.read_text().startswith("# slurm-lab")):
        return "no SLURM test cluster here: as root on Debian, run tests/slurm/start_slurm.sh"
    try:
        subprocess.run(["scontrol", "ping"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "the SLURM test cluster is down: run tests/slurm/start_slurm.sh"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First: pytest-xdist gives the first tests to one worker, and these wait for each other.
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)
    ours = [item for item in items if item.get_closest_marker("slurm")]
    if ours and (reason := no_cluster()):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One test at a time has the cluster, with every node up."""
    with FileLock(Path(tempfile.gettempdir()) / "genclass-slurm-tests.lock"):
        cluster.restore()
        yield
        cluster.clear()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran without SLURM, a job for each dataset."""
    project = Project.create(tmp_path_factory.mktemp("local"))
    project.config["device"] = "cpu"
    project.config["shards"] = {"images": 12}
    project.config["models"]["random"]["trials"] = 2500
    project.save()
    project.snakemake(*TARGETS)
    return project


@pytest.fixture
def project(local: Project, tmp_path: Path) -> Project:
    """The same before its first job, in three jobs for each dataset, long enough to be hit.

    What SLURM has no part in is done.
    """
    project = local.copied_to(tmp_path / "project")
    for name in ("scores", "merged", "partial", "logs/evaluate", "benchmarks/evaluate"):
        subprocess.run(["rm", "-rf", str(project.folder / "results" / name)], check=True)
    project.config["shards"] = {"images": 4}
    project.save()
    # What the test cluster lacks: cores, and time to wait.
    cluster.edit_profile(project, "cpus_per_task: 4 ", "cpus_per_task: 1 ")
    cluster.edit_profile(project, "status-checks: 20 ", "status-checks: 2 ")
    return project
