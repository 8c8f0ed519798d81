"""A run of hours, as `make rehearsal HOURS=...` has it: in stages, to its end, and on."""

import json
import re
from pathlib import Path

import pandas as pd

from genclass.paths import Run
from genclass.planning.allotment import Allotment
from tests.support.halfway import small
from tests.support.project import Project

HOURS = 0.003  # some images of the made-up device


def test_a_run_of_hours_goes_to_its_end_and_on_from_there(tmp_path: Path) -> None:
    config = small(tmp_path / "unused", ["randar", "dit"], ["digits"])
    raw = json.loads(config.reported()) | {"results": "results", "rehearsal": 1}
    raw["models"]["dit"]["strategy"] = {"kind": "racing"}
    raw["exhaustive"] = 0
    project = Project.of(tmp_path / "project", raw)
    run = Run(tmp_path / "project/rehearsal/results-1")
    hours, setting = ("--hours", str(HOURS)), ("--config", f"hours={HOURS}")
    stages = 0
    while project.exit_code("budget", *hours) == 0:
        project.snakemake("measured", *setting, "--quiet")
        stages += 1
        assert stages < 10
    assert stages > 1
    project.snakemake(*setting, "--quiet")
    first = Allotment.read(run.budget)
    assert first is not None
    counts = {
        cell: pd.read_parquet(run.predictions(*cell))["image_id"].nunique()
        for cell in first.cells()
    }
    assert counts == first.cells()
    assert 0 < min(counts.values()) < 300
    assert f"{min(counts.values())} of 300" in run.page.read_text()
    said = project.genclass("budget", *hours, check=False)
    assert re.search(r"spent 0\.00[23]\d* of 0\.003 hours", said)
    # The same hours again: nothing. More of them: what is missing alone.
    assert project.exit_code("budget", *hours) == 3
    assert project.planned(*setting) == {}
    assert project.exit_code("budget", "--hours", str(2 * HOURS)) == 0
    more = Allotment.read(run.budget)
    assert more is not None and sum(more.cells().values()) > sum(first.cells().values())
    planned = project.planned("--config", f"hours={2 * HOURS}")
    grown = [cell for cell, images in more.cells().items() if images > counts.get(cell, 0)]
    assert planned["evaluate"] >= planned["merge"] == len(grown)
    # Without hours it is everything.
    assert project.exit_code("budget") == 3
    assert not run.budget.exists()
    assert project.planned()["merge"] == 2
