"""The rehearsal: some models of config.yaml, from manifests to the report, at 1/50 of its size."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from genclass.config import load_config
from genclass.jobs.rehearsal import WARNING
from genclass.scores.score_file import Index
from genclass.text import digest
from tests.support.project import REPOSITORY

PARTS = (
    *("Snakefile", "rules", "workflow_scripts", "profiles", "reports", "environment.yaml"),
    *("config", "config.yaml"),
)
KEPT = ("randar-l", "randar-l-raster", "randar-xl", "dit-xl", "dinov2-xl")
LEFT_OUT = {
    f"imagenet-c-{corruption}-{severity}"
    for corruption in ("gaussian-noise", "jpeg-compression")
    for severity in range(2, 6)
}
WHOLE = load_config(REPOSITORY / "config.yaml")


def cut(config: dict[str, Any]) -> dict[str, Any]:
    """The config with a few of its models only: one of each kind that a rehearsal treats apart."""
    config["models"] = {name: config["models"][name] for name in KEPT}
    for evaluation in config["evaluations"]:
        evaluation["models"] = [name for name in evaluation["models"] if name in KEPT]
        evaluation["datasets"] = [name for name in evaluation["datasets"] if name not in LEFT_OUT]
    config["evaluations"] = [one for one in config["evaluations"] if one["models"]]
    tables = config["report"]["tables"]
    for table in tables.values():
        if "rows" in table:
            table["rows"] = [row for row in table["rows"] if row["model"] in KEPT]
        if "columns" in table:
            table["columns"] = [name for name in table["columns"] if name not in LEFT_OUT]
    config["report"]["tables"] = {name: t for name, t in tables.items() if t.get("rows", True)}
    return config


def snakemake(folder: Path, config: str, share: str, *arguments: str) -> str:
    """stdout and stderr of a run that succeeds."""
    given = ["--configfile", config, "--config", f"rehearsal={share}"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *given, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsal")
    for part in PARTS:
        source = REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    config = cut(yaml.safe_load((folder / "config.yaml").read_text()))
    (folder / "config/paper.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_paper_at_a_fiftieth(folder: Path) -> None:
    snakemake(folder, "config/paper.yaml", "0.02", "--quiet", "progress")
    config = load_config(folder / "config/paper.yaml")
    results = folder / "results/rehearsal/paper-0.02"
    assert list((folder / "results").iterdir()) == [results.parent]
    cells = config.cells()
    assert {model for model, _ in cells} == {*KEPT}
    for model, dataset in cells:
        metrics = json.loads((results / f"metrics/{model}/{dataset}.json").read_text())
        section = config.datasets[dataset]
        least = section.classes if section.candidates == "present" else 1
        assert metrics["images"] == max(least, round(section.images / 50))
        assert metrics["trials"] == cells[model, dataset].trials
        if section.candidates == "all":
            assert metrics["classes"] == 1000
        spec = json.loads((results / f"specs/{model}/{dataset}.json").read_text())
        checkpoint = config.models[model].network.checkpoint
        assert spec["files"]["network"] == digest(f"rehearsal-{checkpoint}")
        scores = results / f"scores/{model}/{dataset}"
        assert {Index.read(f).header.device for f in scores.iterdir()} == {"rehearsal (no device)"}
        merged = results / f"merged/{model}/{dataset}.safetensors"
        assert not merged.exists()  # temporary
    page = (results / "report/report.html").read_text()
    assert len(page) < 8_000_000
    assert "No gallery: a rehearsal runs no networks." in page
    assert WARNING in page.split("</title>")[0]
    report = [path for path in (results / "report").rglob("*") if path.is_file()]
    texts = [path for path in report if path.suffix not in (".png", ".parquet")]
    assert [path for path in texts if WARNING not in path.read_text()] == []
    assert (results / "report/summary.txt").read_text().startswith(WARNING)
    images = pd.read_parquet(results / "report/predictions.parquet", columns=["image_id"])
    assert images["image_id"].str.startswith("rehearsal/").all()
    assert {path.suffix for path in report} == {
        *(".html", ".txt", ".json", ".csv", ".tex", ".svg", ".png", ".parquet"),
    }
    assert "Nothing to be done" in snakemake(folder, "config/paper.yaml", "0.02")


def test_at_full_size_it_plans_every_job(folder: Path) -> None:
    text = snakemake(folder, "config.yaml", "1", "--dry-run", "--quiet", "rules")
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    assert int(counts["evaluate"]) == 331
    assert int(counts["merge"]) == int(counts["measure"]) == len(WHOLE.cells())
