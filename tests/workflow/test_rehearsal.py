"""The rehearsal: all of config.yaml, from manifests to the report, at 1/50 of its images."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from genclass.config import load_config
from genclass.jobs.rehearsal import WARNING
from genclass.scores.score_file import Index
from genclass.text import digest
from tests.support.project import REPOSITORY

PARTS = (
    *("Snakefile", "rules", "workflow_scripts", "profiles", "reports", "environment.yaml"),
    *("config", "config.yaml"),
)
CONFIG = load_config(REPOSITORY / "config.yaml")


def snakemake(folder: Path, share: str, *arguments: str) -> str:
    """stdout and stderr of a run that succeeds."""
    config = ["--configfile", "config.yaml", "--config", f"rehearsal={share}"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *config, *arguments],
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
    return folder


@pytest.mark.timeout(900)
def test_the_whole_paper_at_a_fiftieth(folder: Path) -> None:
    snakemake(folder, "0.02", "--quiet", "progress")
    results = folder / "results/rehearsal/paper-0.02"
    assert list((folder / "results").iterdir()) == [results.parent]
    cells = CONFIG.cells()
    for model, dataset in cells:
        metrics = json.loads((results / f"metrics/{model}/{dataset}.json").read_text())
        assert metrics["images"] == round(CONFIG.datasets[dataset].images / 50)
        assert metrics["trials"] == cells[model, dataset].trials
        if CONFIG.datasets[dataset].candidates == "all":
            assert metrics["classes"] == 1000
        spec = json.loads((results / f"specs/{model}/{dataset}.json").read_text())
        checkpoint = CONFIG.models[model].network.checkpoint
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
    assert "Nothing to be done" in snakemake(folder, "0.02")


def test_at_full_size_it_plans_every_job(folder: Path) -> None:
    text = snakemake(folder, "1", "--dry-run", "--quiet", "rules")
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    assert int(counts["evaluate"]) == 2076
    assert int(counts["merge"]) == int(counts["measure"]) == len(CONFIG.cells())
