"""A run of hours, as `make rehearsal HOURS=...` has it: in stages, to its end, and on."""

import json
import re
from pathlib import Path

import pandas as pd

from genclass.paths import Run
from genclass.planning.allotment import Allotment
from tests.support.halfway import small
from tests.support.project import Project

HOURS = 0.01  # some images of the made-up device


def run_of_hours(project: Project, hours: float) -> tuple[int, str]:
    """All its stages, and the report; how many stages there were, and what Snakemake said last."""
    stages = 0
    while project.exit_code("budget", "--hours", str(hours)) == 0:
        project.snakemake("measured", "--config", f"hours={hours}", "--quiet")
        stages += 1
        assert stages < 10
    last = project.snakemake("--config", f"hours={hours}").stdout
    return stages, last


def test_a_run_of_hours_goes_to_its_end_and_on_from_there(tmp_path: Path) -> None:
    config = small(tmp_path / "unused", ["randar", "dit"], ["digits", "sketch"])
    raw = json.loads(config.reported()) | {"results": "results", "rehearsal": 1}
    project = Project.of(tmp_path / "project", raw)
    run = Run(tmp_path / "project/results/rehearsal/results-1")
    stages, _ = run_of_hours(project, HOURS)
    assert stages > 1
    first = Allotment.read(run.budget)
    assert first is not None
    counts = {
        cell: pd.read_parquet(run.predictions(*cell))["image_id"].nunique()
        for cell in first.cells()
    }
    assert counts == first.cells()
    assert 0 < min(counts.values()) < 300
    page = run.page.read_text()
    assert f"{min(counts.values())} of 300" in page
    assert project.exit_code("budget", "--hours", str(HOURS)) == 3
    said = project.genclass("budget", "--hours", str(HOURS), check=False)
    assert re.search(r"spent 0\.0(09\d*|1\d*) of 0\.01 hours", said)
    assert run_of_hours(project, HOURS)[0] == 0
    assert "Nothing to be done" in run_of_hours(project, HOURS)[1]
    # A wish for more goes on: no score file is made again.
    before = {
        path: path.stat().st_mtime_ns for path in (run.root / "scores").rglob("*.safetensors")
    }
    assert run_of_hours(project, 2 * HOURS)[0] > 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    more = Allotment.read(run.budget)
    assert more is not None
    assert sum(more.cells().values()) > sum(first.cells().values())
    # Without hours it is everything.
    assert project.exit_code("budget") == 3
    assert not run.budget.exists()
    project.snakemake("--quiet")
    assert "of 300" not in run.page.read_text()
    assert before == {path: path.stat().st_mtime_ns for path in before}
