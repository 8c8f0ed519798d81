"""What changed between two results folders: cell by cell, and image by image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.contrasts import Contrast, contrast
from genclass.errors import GenclassError
from genclass.files import read_json
from genclass.reporting.results import Evaluation, Results

Status = Literal["same scores", "same spec", "other spec", "not compared"]

_COLUMNS = ["label", "predicted", "posterior", "correct", "share"]


@dataclass(frozen=True)
class RunSide:
    """One run's half of a cell; accuracy 0..1, at its whole budget."""

    accuracy: float
    budget: int
    images: int
    spec: str  # sha256


@dataclass(frozen=True)
class ImageChange:
    """An image with another answer; classes are class ids, posteriors those of the answers."""

    image_id: str
    label: int
    first: int
    second: int
    first_posterior: float | None  # None: of a race that left classes out
    second_posterior: float | None

    @property
    def kind(self) -> Literal["lost", "won", "other"]:
        """lost: right in the first run only; won: in the second only; other: in neither."""
        if self.label == self.first:
            return "lost"
        return "won" if self.label == self.second else "other"


@dataclass(frozen=True)
class CellChange:
    """A model on a dataset in both runs, or why they cannot be compared.

    difference: accuracy of the second minus that of the first, on the images that both have.
    """

    model: str
    dataset: str
    status: Status
    reason: str  # what of the spec, budget or images is not the same; why it is not compared
    first: RunSide | None = None
    second: RunSide | None = None
    difference: Contrast | None = None
    changes: tuple[ImageChange, ...] = ()

    @property
    def sides(self) -> tuple[RunSide | None, RunSide | None]:
        return self.first, self.second

    @property
    def unchanged(self) -> bool:
        """The same scores, bit by bit, of the same images and trials."""
        return self.status == "same scores" and not self.reason

    def count(self, kind: str) -> int:
        return sum(change.kind == kind for change in self.changes)


def compare(first: Results, second: Results) -> list[CellChange]:
    """Every cell of either run, in the order of the first one's config."""
    cells = dict.fromkeys([*first.config.cells(), *second.config.cells()])
    return [_compare_cell(first, second, model, dataset) for model, dataset in cells]


def as_json(first: Results, second: Results, cells: list[CellChange]) -> str:
    """Everything, for programs."""
    entries = [
        {**asdict(cell), "changes": [{"kind": c.kind, **asdict(c)} for c in cell.changes]}
        for cell in cells
    ]
    runs = {"first": str(first.root), "second": str(second.root)}
    return json.dumps({**runs, "cells": entries}, indent=1, allow_nan=False)


def _side(evaluation: Evaluation) -> RunSide | None:
    entry = evaluation.budget_entry(evaluation.trials, MEAN_LOG_P)
    if entry is None or evaluation.metrics is None:
        return None
    spec = evaluation.metrics["spec"]
    return RunSide(entry["mean"], evaluation.trials, evaluation.images, spec)


def _compare_cell(first: Results, second: Results, model: str, dataset: str) -> CellChange:
    evaluations = [run.evaluation(model, dataset) for run in (first, second)]
    sides = (_side(evaluations[0]), _side(evaluations[1]))

    def apart(reason: str) -> CellChange:
        return CellChange(model, dataset, "not compared", reason, *sides)

    missing = [
        f"{name}: {evaluation.missing}"
        for name, evaluation in zip("AB", evaluations, strict=True)
        if evaluation.missing
    ]
    if missing:
        return apart("; ".join(missing))
    a, b = (
        run.predictions(model, dataset, _COLUMNS, evaluation.trials)
        for run, evaluation in zip((first, second), evaluations, strict=True)
    )
    if a is None or b is None:
        return apart(f"{'A' if a is None else 'B'}: no predictions at its whole budget")
    common = a.index.intersection(b.index).sort_values()
    if common.empty:
        return apart("not one image in common")
    status, reason = _sameness(first, second, model, dataset)
    notes = [reason] if reason else []
    if evaluations[0].trials != evaluations[1].trials:
        notes.append(f"trials {evaluations[0].trials} → {evaluations[1].trials}")
    if len(common) < max(len(a), len(b)):
        notes.append(f"images {len(a)} → {len(b)}, {len(common)} in common")
    a, b = a.loc[common], b.loc[common]
    relabelled = int((a["label"] != b["label"]).sum())
    if relabelled:
        return apart(f"{relabelled} images have another label")
    difference = contrast([b["share"] - a["share"]])
    changes = tuple(_changes(a, b))
    return CellChange(model, dataset, status, "; ".join(notes), *sides, difference, changes)


def _changes(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[ImageChange]:
    other = (a["predicted"] != b["predicted"]).to_numpy()
    a, b = a[other], b[other]
    columns = a.index, a["label"], a["predicted"], b["predicted"], a["posterior"], b["posterior"]
    for image_id, label, first, second, *posteriors in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        sure = [None if math.isnan(posterior) else posterior for posterior in posteriors]
        yield ImageChange(image_id, label, first, second, sure[0], sure[1])


def _sameness(first: Results, second: Results, model: str, dataset: str) -> tuple[Status, str]:
    """Whether the scores are the same, or what of their specs is not."""
    records = [run.evaluation(model, dataset).record for run in (first, second)]
    if records[0] and records[1] and records[0]["sha256"] == records[1]["sha256"]:
        return "same scores", ""
    if records[0] and records[1] and records[0]["spec"] == records[1]["spec"]:
        return "same spec", ""
    specs = [_flat(run.files.spec(model, dataset)) for run in (first, second)]
    keys = sorted(
        k for k in specs[0].keys() | specs[1].keys() if specs[0].get(k) != specs[1].get(k)
    )
    return "other spec", ", ".join(keys)


def _flat(spec: Path) -> dict[str, Any]:
    """The keys of a spec, those of its sections as `section.key`; empty where it is gone."""
    try:
        values = read_json(spec, dict[str, Any], "spec", "delete it and rerun")
    except GenclassError:
        return {}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": entry for inner, entry in value.items()}
        else:
            flat[key] = value
    return flat
