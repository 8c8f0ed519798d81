"""A small project in a folder of its own: the real workflow on random networks and few images."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.support import small_randar

REPOSITORY = Path(__file__).parents[2]
CLASSES, IMAGES_PER_CLASS = 3, 4


def tiny_config() -> dict[str, Any]:
    network, encoder = (part.model_dump() for part in small_randar.sections(layers=1, classes=10))
    model = {"network": network, "encoder": encoder, "image_size": small_randar.IMAGE_SIZE}
    row = {"model": "random"}
    return {
        "results": "results",
        "seed": 1,
        "shards": {"images": 8},
        "checkpoints": {
            "network": {"places": ["file:given/network.pt"], "licence": "MIT"},
            "encoder": {"places": ["file:given/encoder.safetensors"], "licence": "MIT"},
        },
        "datasets": {
            name: {
                "title": name.title(),
                "places": [f"file:given/{name}"],
                "licence": "MIT",
                "labels": labels,
                "candidates": "present",
                "images": CLASSES * IMAGES_PER_CLASS,
            }
            for name, labels in (("noise", "given/classes.csv"), ("stripes", "digits"))
        },
        "models": {
            "random": model
            | {"title": "Random orders", "classifier": {"method": "any_order"}, "trials": 4},
            "raster": model
            | {
                "title": "Raster order",
                "classifier": {"method": "any_order", "orders": "raster"},
                "trials": 1,
            },
        },
        "evaluations": [{"models": ["random", "raster"], "datasets": ["noise", "stripes"]}],
        "report": {
            "title": "Tiny",
            "tables": {
                "main": {
                    "kind": "accuracy",
                    "title": "Main",
                    "caption": "A caption.",
                    "rows": [row | {"trials": 1}, row, {"model": "raster"}],
                    "columns": ["noise", "stripes"],
                    "mean": True,
                },
                "aggregation": {
                    "kind": "aggregation",
                    "title": "Aggregation",
                    "model": "random",
                    "datasets": ["noise"],
                    "budgets": [1, 2, 4],
                },
            },
            "gallery": [{"models": ["random", "raster"], "datasets": ["noise"], "images": 2}],
        },
    }


@dataclass
class Project:
    """A copy of the workflow in `folder`, with `config` as its config.yaml."""

    folder: Path
    config: dict[str, Any]

    @classmethod
    def create(cls, folder: Path) -> Project:
        for part in (
            "Snakefile",
            "rules",
            "workflow_scripts",
            "profiles",
            "reports",
            "environment.yaml",
        ):
            source = REPOSITORY / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
        given = folder / "given"
        given.mkdir()
        small_randar.save(given, layers=1, classes=10)
        shutil.copy(REPOSITORY / "genclass/data/lists/digits.csv", given / "classes.csv")
        random = np.random.default_rng(0)
        for name in ("noise", "stripes"):
            for label in range(CLASSES):
                (given / name / f"digit-{label}").mkdir(parents=True)
                for index in range(IMAGES_PER_CLASS):
                    pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    if name == "stripes":
                        pixels[:] = pixels[0]
                    Image.fromarray(pixels).save(given / name / f"digit-{label}" / f"{index}.png")
        project = cls(folder, tiny_config())
        project.save()
        return project

    def save(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def copied_to(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder, symlinks=True)  # dates are kept: Snakemake reads them
        return Project(folder, copy.deepcopy(self.config))

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on config.yaml; stdout and stderr are in `.stdout`."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", "config.yaml"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a run would start."""
        text = self.snakemake("--dry-run", "--quiet", "rules", *arguments).stdout
        if "Nothing to be done" in text:
            return {}
        stats = text.split("Job stats:")[1].split("total")[0]
        rows = re.findall(r"^(\w+)\s+(\d+)$", stats, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in rows if rule != "all"}
