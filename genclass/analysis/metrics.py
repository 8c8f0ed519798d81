"""The metrics of a cell as a file: what stands in it, and which files it speaks of."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeInt, model_validator

from genclass.errors import GenclassError
from genclass.files import read_json, reading, sha256_of, write_atomically
from genclass.section import Aggregation, PositiveInt, Sha256, Stored

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "delete it and rerun"
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0)]


class BudgetEntry(Stored):
    """Accuracy at one budget: of every disjoint group, their mean, and their deviation."""

    budget: PositiveInt
    images: PositiveInt
    mean: Share
    deviation: Positive | None
    groups: Annotated[list[Share], Field(min_length=1)]


class ClassCount(Stored):
    class_id: NonNegativeInt
    images: PositiveInt
    correct: NonNegativeInt


class Confusion(Stored):
    label: NonNegativeInt
    predicted: NonNegativeInt
    images: PositiveInt


class Bin(Stored):
    low: Share
    high: Share
    images: PositiveInt
    confidence: Annotated[float, Field(ge=0, le=1 + 1e-9)]
    accuracy: Share


class Calibration(Stored):
    ece: Share
    is_likelihood: bool
    bins: list[Bin]


class DeviceCost(Stored):
    device: str
    seconds: Positive
    seconds_per_image_trial: Positive


class Costs(Stored):
    forward_passes_per_image_trial: Positive
    flops_per_image: NonNegativeInt
    flops_per_image_trial: float
    peak_memory: NonNegativeInt
    devices: Annotated[list[DeviceCost], Field(min_length=1)]


class Control(Stored):
    """The races' answers on images that are scored exhaustively, too: of a replay.

    passes: forward passes of an image, in the mean.
    """

    images: PositiveInt
    agreeing: NonNegativeInt
    passes: Positive


class TrialNames(Stored):
    noun: str
    exchangeable: bool


class Metrics(Stored):
    """What `measure` found; keys are described there. Bound to the files that it was found with."""

    spec: Sha256
    role: str
    likelihood: bool
    trial: TrialNames
    racing: bool
    images: PositiveInt
    exhaustive: NonNegativeInt
    trials: PositiveInt
    classes: PositiveInt
    accuracy: dict[Aggregation, Annotated[list[BudgetEntry], Field(min_length=1)]]
    race_accuracy: list[BudgetEntry]
    per_class: list[ClassCount]
    confusions: list[Confusion]
    calibration: Calibration | None
    costs: Costs
    control: Control | None
    race_costs: Costs | None
    predictions: Sha256  # of the file beside it
    record: Sha256  # of the file of what was merged

    @model_validator(mode="after")
    def _fits_together(self) -> Metrics:
        budgets = [[entry.budget for entry in entries] for entries in self.accuracy.values()]
        if bool(budgets) != bool(self.exhaustive) or any(
            found != list(range(1, self.trials + 1)) for found in budgets
        ):
            raise ValueError(f"its accuracies are not those of {self.trials} trials")
        last = [entry.budget for entry in self.race_accuracy][-1:]
        if last != ([self.trials] if self.racing else []):
            raise ValueError("a race answers at its whole budget, and nothing else does")
        if any(entry.images != self.images for entry in self.race_accuracy):
            raise ValueError(f"its races' answers are not those of {self.images} images")
        if sum(entry.images for entry in self.per_class) != self.images or any(
            entry.correct > entry.images for entry in self.per_class
        ):
            raise ValueError(f"its classes do not add up to {self.images} images")
        if (self.calibration is None) != (self.exhaustive == 0):
            raise ValueError("what is scored exhaustively has a calibration, and nothing else")
        if self.control is not None and not (self.racing and self.exhaustive):
            raise ValueError("a race with exhaustive scores has a control, and nothing else")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Metrics:
        """
        Raises:
            GenclassError: the file is missing, or no metrics.
        """
        return read_json(path, cls, "metrics of this version", _REMEDY)

    def check_predictions(self, path: str | Path) -> None:
        """
        Raises:
            GenclassError: the file is missing, or not the one that was measured with these metrics.
        """
        _check(path, self.predictions, "predictions")

    def check_record(self, path: str | Path) -> None:
        """
        Raises:
            GenclassError: the file is missing, or not the one that was measured with these metrics.
        """
        _check(path, self.record, "record of merged scores")


def write_measured(
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame,
    record: Path,
    metrics_path: Path,
    predictions_path: Path,
) -> None:
    """Write what `measure` returned as Parquet and JSON, each whole or not at all.

    record: the file of the merge record, which the metrics are bound to as to the predictions.

    Raises:
        GenclassError: a file cannot be written.
    """
    buffer = io.BytesIO()
    predictions.to_parquet(buffer, index=False, compression="zstd")
    write_atomically(predictions_path, buffer.getvalue())
    bound = {"predictions": sha256_of(predictions_path), "record": sha256_of(record)}
    text = json.dumps({**metrics, **bound}, indent=1, allow_nan=False)
    write_atomically(metrics_path, text + "\n")


def _check(path: str | Path, sha256: str, what: str) -> None:
    with reading(path, what, "rerun"):
        found = sha256_of(path)
    if found != sha256:
        raise GenclassError(
            f"{path}: not the {what} that its metrics were measured with: {_REMEDY}"
        )
