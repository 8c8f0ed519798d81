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
LIBRARY = "library"  # of a project: where its own copy of genclass stands, if it has one


def tiny_config() -> dict[str, Any]:
    model = small_randar.sections(layers=1, classes=10)
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
            "random": model | {"title": "Random orders", "trials": 4},
            "raster": model
            | {"title": "Raster order", "classifier": {"orders": "raster"}, "trials": 1},
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


def few_config() -> dict[str, Any]:
    """What makes the miniature and examples/gaussians.yaml small: few images, steps and models."""
    models = ["randar", "gaussians", "gaussians-racing"]
    rows = [{"model": name} for name in models]
    return {
        "device": "cpu",
        "evaluations": [{"models": models, "datasets": ["digits"], "images": 60}],
        "models": {name: {"trials": 6} for name in models},
        "miniature": {
            "training": {"vq": {"steps": 2}, "randar": {"steps": 2}, "gaussians": {"steps": 300}}
        },
        "report": {"tables": {"main": {"rows": rows, "columns": ["digits"]}, "aggregation": None}},
    }


def _copy_workflow(folder: Path, *more: str) -> None:
    parts = ("Snakefile", "rules", "workflow_scripts", "profiles", "reports", "environment.yaml")
    for part in (*parts, *more):
        source = REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)


@dataclass
class Project:
    """A copy of the workflow in `folder`, with `config` as the last of its config files."""

    folder: Path
    config: dict[str, Any]
    configs: tuple[str, ...] = ("config.yaml",)  # in the folder, each overriding those before

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Of `tiny_config`, with what it is given."""
        _copy_workflow(folder)
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

    @classmethod
    def of(cls, folder: Path, config: dict[str, Any]) -> Project:
        """Of a config that is given nothing: its scores are made up."""
        folder.mkdir()
        _copy_workflow(folder)
        project = cls(folder, config)
        project.save()
        return project

    @classmethod
    def create_beside_gaussians(cls, folder: Path) -> Project:
        """Of examples/gaussians.yaml: a family from outside beside one of the miniature's."""
        _copy_workflow(folder, "config", "examples")
        files = ("config/miniature.yaml", "examples/gaussians.yaml", "few.yaml")
        project = cls(folder, few_config(), files)
        project.save()
        return project

    def save(self) -> None:
        text = yaml.safe_dump(self.config, sort_keys=False)
        (self.folder / self.configs[-1]).write_text(text)

    def copied_to(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder, symlinks=True)  # dates are kept: Snakemake reads them
        return Project(folder, copy.deepcopy(self.config), self.configs)

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the config; stdout and stderr are in `.stdout`."""
        return self._run("snakemake", *arguments, "--configfile", *self.configs, check=check)

    def genclass(self, *arguments: str | Path, check: bool = True) -> str:
        """What `genclass` says of the config, on stdout and stderr."""
        configs = [word for file in self.configs for word in ("-c", file)]
        return self._run("genclass", *map(str, arguments), *configs, check=check).stdout

    def exit_code(self, *arguments: str) -> int:
        """Of a command of `genclass` that succeeds, or says with 3 that there is nothing to do."""
        configs = [word for file in self.configs for word in ("-c", file)]
        done = self._run("genclass", *arguments, *configs, check=False)
        assert done.returncode in (0, 3), done.stdout
        return done.returncode

    def _run(self, module: str, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        library = self.folder / LIBRARY
        paths = [str(library)] if library.exists() else []
        if inherited := os.environ.get("PYTHONPATH"):
            paths.append(inherited)
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}
            | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {}),
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def edit_library(self, module: str, old: str, new: str) -> None:
        """From now on this project runs a copy of genclass in which that is different."""
        library = self.folder / LIBRARY
        if not library.exists():
            for part in ("genclass", "reports"):
                shutil.copytree(REPOSITORY / part, library / part)
        path = library / "genclass" / module
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} in {module}"
        path.write_text(text.replace(old, new))

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a run would start."""
        text = self.snakemake("--dry-run", "--quiet", "rules", *arguments).stdout
        if "Nothing to be done" in text:
            return {}
        stats = text.split("Job stats:")[1].split("total")[0]
        rows = re.findall(r"^(\w+)\s+(\d+)$", stats, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in rows if rule != "all"}
