"""A family from outside, examples/gaussians.py, beside the miniature's: from plan to report."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Project

IMAGES, TRIALS, CLASSES = 60, 6, 10
MODELS = ["randar", "gaussians", "gaussians-racing"]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run to its end; tests leave it as they find it."""
    project = Project.create_beside_gaussians(tmp_path_factory.mktemp("beside"))
    project.snakemake()
    return project


def read(project: Project, path: str) -> Any:
    return json.loads((project.folder / "results" / path).read_text())


def test_a_plan_and_a_rehearsal_know_it(tmp_path: Path) -> None:
    project = Project.create_beside_gaussians(tmp_path)
    planned = json.loads(project.genclass("plan", "--json"))
    passes = {cell["model"]: cell["passes"] for cell in planned["cells"]}
    raced = passes.pop("gaussians-racing")
    assert set(passes.values()) == {IMAGES * TRIALS * CLASSES}
    assert raced > 40 * TRIALS * CLASSES  # its exhaustive images, a pilot, the others' races
    project.snakemake("--config", "rehearsal=0.5", "--quiet")
    metrics = {m: read(project, f"rehearsal/miniature-0.5/metrics/{m}/digits.json") for m in MODELS}
    assert {m: metrics[m]["images"] for m in MODELS} == dict.fromkeys(MODELS, IMAGES // 2)
    assert metrics["gaussians"]["trial"]["noun"] == "draw"
    assert metrics["gaussians-racing"]["racing"]
    page = project.folder / "results/rehearsal/miniature-0.5/report/report.html"
    assert "Gaussians" in page.read_text()


def test_it_is_trained_scored_raced_merged_and_reported(beside: Project) -> None:
    metrics = {m: read(beside, f"miniature/metrics/{m}/digits.json") for m in MODELS}
    answers = {
        m: metrics[m]["race_accuracy"] or metrics[m]["accuracy"]["mean_log_p"] for m in MODELS
    }
    whole = {m: answers[m][-1]["mean"] for m in MODELS}
    assert whole["gaussians"] > 0.8  # ten classes; of Gaussians in pixel space, 90 % and more
    assert abs(whole["gaussians-racing"] - whole["gaussians"]) < 0.1
    assert metrics["gaussians"]["role"] == "other"
    assert set(metrics["gaussians"]["accuracy"]) > {"mean_log_p"}  # its scores are likelihoods
    records = {m: read(beside, f"miniature/merged/{m}/digits.json") for m in MODELS}
    passes = {m: records[m]["shards"][0]["forward_passes"] for m in MODELS}
    assert passes["gaussians"] == passes["randar"] == IMAGES * TRIALS * CLASSES
    assert passes["gaussians-racing"] != passes["gaussians"]
    page = (beside.folder / "results/miniature/report/report.html").read_text()
    assert "Gaussians" in page
    assert "Gaussians, K=20" not in page  # the rows are those of the last config
    assert "Nothing to be done" in beside.snakemake().stdout


CELL = {"specify": 1, "evaluate": 1, "merge": 1, "measure": 1}
REPORT = {"report": 1}


def edit_plugin(project: Project) -> None:
    plugin = project.folder / "examples/gaussians.py"
    plugin.write_text(plugin.read_text() + "# a thought\n")


def raise_version(project: Project) -> None:
    name = '    architecture: Literal["randar"]\n'
    project.edit_library("families/randar.py", name, f"    version = 99\n{name}")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            edit_plugin,
            dict.fromkeys(CELL, 2) | {"evaluate": 3} | REPORT,
        ),  # one races, but for a prefix
        (raise_version, CELL | REPORT),  # the one of RandAR
    ],
)
def test_an_edit_of_a_family_reruns_its_own_models(
    beside: Project, tmp_path: Path, edit, expected: dict[str, int]
) -> None:
    project = beside.copied_to(tmp_path / "copy")
    edit(project)
    assert project.planned() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "plugin examples/gaussians.py: cannot be read: No such file or directory"),
        ("import nothing_at_all\n", "plugin examples/gaussians.py: fails on import: ModuleNotFou"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str | None, message: str
) -> None:
    project = Project.create_beside_gaussians(tmp_path)
    plugin = project.folder / "examples/gaussians.py"
    plugin.unlink() if text is None else plugin.write_text(text)
    done = project.snakemake("--dry-run", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
