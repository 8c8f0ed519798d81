"""Where everything of a run lies in its results folder: the one place that knows.

Names may be Snakemake's wildcards: `Run("results/x").metrics("{model}", "{dataset}")` is a rule's
output. No torch, no pandas.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["checkpoints", "datasets"]  # of what is fetched


@dataclass(frozen=True)
class Run:
    """A results folder, for example `results/miniature`."""

    root: Path

    def __init__(self, root: str | Path) -> None:
        object.__setattr__(self, "root", Path(root))

    @property
    def config(self) -> Path:
        """The resolved config, as the report shows it."""
        return self.root / "config.json"

    @property
    def shard_sizes(self) -> Path:
        """How large shards are, recorded when a run starts."""
        return self.root / "shards.json"

    @property
    def calibration(self) -> Path:
        """What `genclass calibrate` measured."""
        return self.root / "calibration.json"

    @property
    def report(self) -> Path:
        """The folder of the page, its tables and figures."""
        return self.root / "report"

    @property
    def page(self) -> Path:
        return self.report / "report.html"

    @property
    def summary(self) -> Path:
        """The main table as text, for a terminal."""
        return self.report / "summary.txt"

    @property
    def failures(self) -> Path:
        """What failed in the last run, for a terminal; absent where nothing did."""
        return self.root / "failures.txt"

    def table(self, name: str) -> Path:
        return self.report / "tables" / f"{name}.json"

    def manifest(self, kind: str, name: str) -> Path:
        """Of a checkpoint or dataset that was fetched; kind: see `Kind`."""
        return self.root / "manifests" / kind / f"{name}.json"

    def image_list(self, dataset: str) -> Path:
        return self.root / "images" / f"{dataset}.csv"

    def spec(self, model: str, dataset: str) -> Path:
        return self.root / "specs" / model / f"{dataset}.json"

    def scores(self, model: str, dataset: str) -> Path:
        """The folder of a cell's score files."""
        return self.root / "scores" / model / dataset

    def shard(self, model: str, dataset: str, shard: str) -> Path:
        """One score file."""
        return self.scores(model, dataset) / f"{shard}.safetensors"

    def partial(self, model: str, dataset: str) -> Path:
        """The folder of what unfinished shards have so far."""
        return self.root / "partial" / model / dataset

    @property
    def compiled(self) -> Path:
        """The folder of what torch.compile made, for later jobs."""
        return self.root / "compiled"

    def merged(self, model: str, dataset: str) -> Path:
        """A cell's scores in one file, which is deleted once they are measured."""
        return self.root / "merged" / model / f"{dataset}.safetensors"

    def record(self, model: str, dataset: str) -> Path:
        """What the merged scores were made of, and what they cost."""
        return self.root / "merged" / model / f"{dataset}.json"

    def metrics(self, model: str, dataset: str) -> Path:
        return self.root / "metrics" / model / f"{dataset}.json"

    def predictions(self, model: str, dataset: str) -> Path:
        return self.root / "predictions" / model / f"{dataset}.parquet"

    def explained(self, one: str, other: str, dataset: str) -> Path:
        return self.root / "explained" / one / other / f"{dataset}.json"

    @property
    def so_far(self) -> SoFar:
        """The same folder while jobs run: what is there is measured and reported beside it."""
        return SoFar(self.root)

    @property
    def budget(self) -> Path:
        """How many images each cell gets in a run of hours."""
        return self.root / "budget.json"

    def log(self, rule: str, *names: str) -> Path:
        """The log of a rule's job, by its wildcards."""
        return self.root / "logs" / Path(rule, *names).with_name(f"{[rule, *names][-1]}.log")

    def benchmark(self, rule: str, *names: str) -> Path:
        """The time and memory of a rule's job, by its wildcards."""
        return self.root / "benchmarks" / Path(rule, *names).with_name(f"{[rule, *names][-1]}.tsv")


class SoFar(Run):
    """A results folder in the middle of its run: what is measured then lies in `so-far`."""

    @property
    def _own(self) -> Run:
        return Run(self.root / "so-far")

    @property
    def config(self) -> Path:
        return self._own.config

    @property
    def report(self) -> Path:
        return self._own.report

    @property
    def parts(self) -> Path:
        """The folder of what is known of single score files."""
        return self._own.root / "parts"

    def spec(self, model: str, dataset: str) -> Path:
        return self._own.spec(model, dataset)

    def record(self, model: str, dataset: str) -> Path:
        return self._own.record(model, dataset)

    def metrics(self, model: str, dataset: str) -> Path:
        return self._own.metrics(model, dataset)

    def predictions(self, model: str, dataset: str) -> Path:
        return self._own.predictions(model, dataset)
