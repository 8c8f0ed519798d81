"""A rendered report and a real Chromium to read it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from genclass.config import parse_config
from genclass.reporting.page import render
from tests.support.synthetic_results import (
    MODELS,
    make_config,
    write_config,
    write_gallery,
    write_results,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a synthetic results folder."""
    config = write_results(tmp_path_factory.mktemp("browser"))
    return render(config.results).page


@pytest.fixture(scope="session")
def large(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 64 evaluations, as many as the paper's config has: every model there twice."""
    root = tmp_path_factory.mktemp("large")
    raw = make_config(root).model_dump(mode="json")
    for name in list(raw["models"]):
        title = f"{raw['models'][name]['title']}, again"
        raw["models"][f"{name}-again"] = {**raw["models"][name], "title": title}
    raw["evaluations"][0]["models"] = list(raw["models"])
    tables = raw["report"]["tables"]
    again = [{**row, "model": f"{row['model']}-again"} for row in tables["main"]["rows"]]
    tables["main"]["rows"] += again
    for number in range(3):
        tables[f"more-{number}"] = {**tables["main"], "title": f"More, {number}"}
    config = parse_config(raw, "large")
    write_config(config)
    for part in ("metrics", "merged", "predictions", "specs"):
        for name in MODELS:
            folder = report.parents[1] / part / name
            leave = shutil.ignore_patterns("*.safetensors")
            for copy in (name, f"{name}-again"):
                shutil.copytree(folder, root / part / copy, ignore=leave)
    write_gallery(config)
    assert len(config.cells()) == 64
    return render(root).page


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium fonts-dejavu")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
