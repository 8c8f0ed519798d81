"""What stands in a results folder, and why what is not there is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.intervals import Estimate, wilson
from genclass.analysis.measure import kept_budgets
from genclass.analysis.metrics import Metrics
from genclass.analysis.sequential import accuracy_so_far
from genclass.config import AccuracyTable, Config, Dataset, Model, parse_config
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList
from genclass.errors import GenclassError
from genclass.files import read_json, reason_of, sha256_of
from genclass.paths import Run
from genclass.scores.merge import MergeRecord
from genclass.sources import Manifest


@dataclass(frozen=True)
class Evaluation:
    """One model on one dataset: what was measured and what it cost, or why it is missing."""

    model: str
    dataset: str
    metrics: dict[str, Any] | None  # what `measure` returned
    record: dict[str, Any] | None  # what `merge` returned
    missing: str = ""  # the reason, where metrics are None
    whole: bool = False  # does the config ask for exhaustive scores of all its images?

    @property
    def trials(self) -> int:
        return int(self.metrics["trials"]) if self.metrics else 0

    @property
    def images(self) -> int:
        return int(self.metrics["images"]) if self.metrics else 0

    @property
    def seconds(self) -> dict[str, float]:
        """By device, of all its shards."""
        seconds: dict[str, float] = defaultdict(float)
        for part in self.record["shards"] if self.record else ():
            seconds[part["device"]] += float(part["seconds"])
        return dict(sorted(seconds.items()))

    @property
    def raced(self) -> bool:
        """Were classes left out on the way? Then the accuracy is that of the races' answers at the
        whole budget and in the first trials, in which none was left out; any other is that of the
        `exhaustive` images, if there are any."""
        return bool(self.metrics and self.metrics["racing"])

    @property
    def exhaustive(self) -> int:
        """How many images, the first, are scored exhaustively."""
        return int(self.metrics["exhaustive"]) if self.metrics else 0

    @property
    def control(self) -> dict[str, Any] | None:
        """Of a race, its answers beside the exhaustive ones; see `Control`."""
        return self.metrics["control"] if self.metrics else None

    def is_of_races(self, budget: int, aggregation: str, exhaustive: bool = False) -> bool:
        """Is it the accuracy of the races' answers?

        exhaustive: of a race, too, that of exhaustive scores is meant, where there are any.
        """
        if exhaustive and self.exhaustive:
            return False
        return aggregation == MEAN_LOG_P and budget in self._of_races

    @cached_property
    def budgets(self) -> list[int]:
        """Those of its curve that predictions are kept for, increasing; of a race without
        exhaustive scores, which has none, the whole one."""
        if self.raced and not self.exhaustive:
            return [self.trials]
        return kept_budgets(self.trials) if self.metrics else []

    def budget_entry(
        self, budget: int, aggregation: str, exhaustive: bool = False
    ) -> dict[str, Any] | None:
        """{budget, images, mean, deviation, groups}; None where it was not measured.

        exhaustive: see `is_of_races`.
        """
        if self.is_of_races(budget, aggregation, exhaustive):
            return self._of_races[budget]
        return self._exhaustive.get((budget, aggregation))

    @cached_property
    def _exhaustive(self) -> dict[tuple[int, str], dict[str, Any]]:
        accuracy = self.metrics["accuracy"] if self.metrics else {}
        return {(entry["budget"], name): entry for name in accuracy for entry in accuracy[name]}

    @cached_property
    def _of_races(self) -> dict[int, dict[str, Any]]:
        entries = self.metrics["race_accuracy"] if self.metrics else []
        if self.whole:  # of its first trials, the exhaustive scores tell more
            entries = entries[-1:]
        return {entry["budget"]: entry for entry in entries}


class Results:
    """A results folder. Everything is read once, when it is asked for."""

    def __init__(self, root: str | Path | Run, config: Config | None = None) -> None:
        """
        config: None: the one that the workflow recorded there.

        Raises:
            GenclassError: there is no resolved config in the folder, or it is wrong.
        """
        self.files = root if isinstance(root, Run) else Run(root)
        self.root = self.files.root
        self.config: Config = config or self._recorded()
        self._cells = self.config.cells()
        self._evaluations: dict[tuple[str, str], Evaluation] = {}
        self._image_lists: dict[str, list[str]] = {}
        self._so_far: dict[tuple[str, str, int, str, bool], Estimate] = {}

    def _recorded(self) -> Config:
        path = self.files.config
        remedy = "delete it and rerun the workflow, which records its config there"
        raw = read_json(path, dict[str, Any], "config of a run", remedy)
        return parse_config(raw, str(path))

    def model(self, name: str) -> Model:
        return self.config.models[name]

    def model_title(self, name: str) -> str:
        """What the report calls a model: its title, with its name where others have the same."""
        return _unique_title(name, self.config.models)

    def dataset_title(self, name: str) -> str:
        """What the report calls a dataset; see `model_title`."""
        return _unique_title(name, self.config.datasets)

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All that the config asks for, in its order of models and datasets."""
        return [
            self.evaluation(model, dataset)
            for model in self.config.models
            for dataset in self.config.datasets
            if (model, dataset) in self._cells
        ]

    @cached_property
    def main_table(self) -> AccuracyTable | None:
        """The accuracy table `main`, or the first one."""
        return self.config.report.main_table

    @cached_property
    def datasets(self) -> list[str]:
        """Those that something is measured on: the main table's columns, then the others."""
        measured = {e.dataset for e in self.evaluations if e.metrics}
        first = self.main_table.columns if self.main_table else []
        return [name for name in dict.fromkeys([*first, *self.config.datasets]) if name in measured]

    @cached_property
    def models(self) -> list[str]:
        """Those that something is measured of: the main table's rows, then the others."""
        measured = {e.model for e in self.evaluations if e.metrics}
        first = [row.model for row in self.main_table.rows] if self.main_table else []
        return [name for name in dict.fromkeys([*first, *self.config.models]) if name in measured]

    @cached_property
    def device(self) -> str | None:
        """The kind of device that most models ran on, the one that seconds are compared on."""
        counts: dict[str, int] = {}
        for evaluation in self.evaluations:
            for device in evaluation.seconds:
                counts[device] = counts.get(device, 0) + 1
        return max(sorted(counts), key=lambda name: counts[name]) if counts else None

    def cost(self, evaluation: Evaluation, unit: str) -> float | None:
        """What one image and trial costs in an evaluation, over all candidate classes.

        Args:
            unit: forward_passes, flops or seconds. Seconds are those of `device` alone: forward
                passes times the mean time of one, over all evaluations of the model there; how
                busy the machine was in a single one counts for less. None: none ran there.
        """
        if not evaluation.metrics:
            return None
        costs = evaluation.metrics["costs"]
        if unit == "flops" and not self.model(evaluation.model).system.work.score:
            return float(costs["flops_per_image"])  # one pass an image is all
        if unit != "seconds":
            return float(costs[f"{unit}_per_image_trial"])
        if self.device not in evaluation.seconds:
            return None
        return float(costs["forward_passes_per_image_trial"]) * self._pass_seconds[evaluation.model]

    @cached_property
    def _pass_seconds(self) -> dict[str, float]:
        """By model, the mean time of a forward pass on `device`."""
        seconds: dict[str, float] = defaultdict(float)
        passes: dict[str, float] = defaultdict(float)
        for evaluation in self.evaluations:
            costs = evaluation.metrics["costs"] if evaluation.metrics else {"devices": []}
            for entry in costs["devices"]:
                if entry["device"] == self.device:
                    image_trials = entry["seconds"] / entry["seconds_per_image_trial"]
                    seconds[evaluation.model] += entry["seconds"]
                    passes[evaluation.model] += (
                        image_trials * costs["forward_passes_per_image_trial"]
                    )
        return {model: seconds[model] / passes[model] for model in seconds}

    def evaluation(self, model: str, dataset: str) -> Evaluation:
        """What is known of a model on a dataset; never fails, says what is missing."""
        key = (model, dataset)
        if key not in self._evaluations:
            self._evaluations[key] = self._read(model, dataset)
        return self._evaluations[key]

    def asked(
        self,
        evaluation: Evaluation,
        what: tuple[int, str] | None = None,
        exhaustive: bool = False,
    ) -> int:
        """How many images the config asks for; more than there are while some are to come.

        what: at this budget, by this aggregation; None: at all. exhaustive: see
        `Evaluation.is_of_races`.
        """
        cell = self._cells.get((evaluation.model, evaluation.dataset))
        if what and evaluation.raced and not evaluation.is_of_races(*what, exhaustive):
            return max(cell.exhaustive if cell else 0, evaluation.exhaustive)
        return max(cell.images if cell else 0, evaluation.images)

    def accuracy(
        self, evaluation: Evaluation, budget: int, aggregation: str, exhaustive: bool = False
    ) -> Estimate | None:
        """The mean over the disjoint groups; None where it was not measured.

        With Wilson's interval for the number of images; while images are to come, with a confidence
        sequence, where predictions are kept for this budget. exhaustive: see
        `Evaluation.is_of_races`.
        """
        entry = evaluation.budget_entry(budget, aggregation, exhaustive)
        if entry is None:
            return None
        found = wilson(entry["mean"], entry["images"])
        if self.asked(evaluation, (budget, aggregation), exhaustive) == entry["images"]:
            return found
        key = evaluation.model, evaluation.dataset, budget, aggregation, exhaustive
        if key not in self._so_far:
            frame = self.judged(*key)
            self._so_far[key] = (
                found if frame is None else accuracy_so_far(frame["share"].to_numpy(float))
            )
        sequence = self._so_far[key]
        return replace(found, low=min(sequence.low, found.value), high=sequence.high)

    def predictions(
        self,
        model: str,
        dataset: str,
        columns: Sequence[str],
        budget: int | None = None,
        exhaustive: bool = False,
    ) -> pd.DataFrame | None:
        """Some columns of the predictions, indexed by image id; None: no such.

        budget: None: all. exhaustive: of a race, too, those of exhaustive scores, where there are
        any; else at budgets that it has an answer for on all images the races' answers.
        """
        path = self.files.predictions(model, dataset)
        evaluation = self.evaluation(model, dataset)
        if evaluation.missing or not path.is_file():
            return None
        exhaustive |= budget is not None and not evaluation.is_of_races(budget, MEAN_LOG_P)
        raced = evaluation.raced and not (exhaustive and evaluation.exhaustive)
        filters: list[tuple[str, str, Any]] = [("raced", "==", raced)]
        if budget is not None:
            filters.append(("budget", "==", budget))
        try:  # that it is what was measured, `evaluation` has seen
            frame = pd.read_parquet(path, columns=["image_id", *columns], filters=filters)
        except (OSError, ValueError, KeyError):  # a column that this model has not
            return None
        return None if frame.empty else frame.set_index("image_id")

    def judged(
        self, model: str, dataset: str, budget: int, aggregation: str, exhaustive: bool = False
    ) -> pd.DataFrame | None:
        """How each image fares at a budget: `share` of the groups that are right, and whether the
        first one is (`correct`); by image id, in the order in which images are scored. None: no
        predictions at this budget.

        For the aggregations that predictions are kept for in the first group only, `share` is that
        of this group. exhaustive: see `predictions`.
        """
        if aggregation == MEAN_LOG_P:
            columns = ["share", "correct"]
            frame = self.predictions(model, dataset, columns, budget, exhaustive)
        else:
            column = f"predicted_{aggregation}"
            frame = self.predictions(model, dataset, ["label", column], budget, exhaustive=True)
            if frame is not None:
                correct = frame[column] == frame["label"]
                frame = pd.DataFrame({"share": correct.astype(float), "correct": correct})
        return frame

    def shares(self, model: str, dataset: str) -> tuple[list[int], np.ndarray, list[str]] | None:
        """Budgets, float64 [images, budgets] share of groups that are right, image ids; or None.

        Of a race, of the images that are scored exhaustively, if there are any.
        """
        frame = self.predictions(model, dataset, ["budget", "share"], exhaustive=True)
        if frame is None:
            return None
        frame = frame[frame["budget"].isin(self.evaluation(model, dataset).budgets)]
        table = frame.set_index("budget", append=True)["share"].unstack("budget").sort_index()
        return [int(b) for b in table.columns], table.to_numpy(float), table.index.tolist()

    def is_scored_whole(self, model: str) -> bool:
        """Are there to be exhaustive scores of a model, so that it has a curve?"""
        return any(extent.exhaustive for (name, _), extent in self._cells.items() if name == model)

    def image_ids(
        self, dataset: str, models: Iterable[str], exhaustive: Iterable[str] = ()
    ) -> list[str]:
        """The images that all these models are to score, in that order; none: no list of them.

        exhaustive: models of which it is to be exhaustively, if they do so at all.
        """
        if dataset not in self._image_lists:
            path = self.files.image_list(dataset)
            try:
                rows = ImageList.read(path).rows if path.is_file() else ()
            except GenclassError:
                rows = ()
            self._image_lists[dataset] = [row.image_id for row in rows]
        asked = [self._cells[model, dataset].images for model in models]
        asked += [
            known for model in exhaustive if (known := self._cells[model, dataset].exhaustive)
        ]
        return self._image_lists[dataset][: min(asked)]

    def class_name(self, dataset: str, class_id: int) -> str:
        """What a person calls a class; its number where its list cannot be read."""
        return self._class_names.get(dataset, {}).get(class_id, str(class_id))

    @cached_property
    def _class_names(self) -> dict[str, dict[int, str]]:
        names: dict[str, dict[int, str]] = {}
        for name, dataset in self.config.datasets.items():
            try:
                entries = ClassList.load(dataset.labels).entries
            except GenclassError:
                continue
            names[name] = {entry.class_id: entry.name for entry in entries}
        return names

    def manifest(self, kind: str, name: str) -> dict[str, Any] | None:
        """The manifest of a checkpoint or dataset, or what is `missing`; None: not fetched yet."""
        path = self.files.manifest(kind, name)
        if not path.is_file():
            return None
        try:
            return asdict(Manifest.read(path))
        except GenclassError as error:
            return {"missing": damaged(path, error)}

    def _read(self, model: str, dataset: str) -> Evaluation:
        def missing(reason: str) -> Evaluation:
            return Evaluation(model, dataset, None, None, reason)

        if (model, dataset) not in self._cells:
            return missing("not in the config")
        path = self.files.metrics(model, dataset)
        if not path.exists():
            return missing("not evaluated yet")
        try:
            metrics = Metrics.read(path)
            path = self.files.record(model, dataset)
            metrics.check_record(path)
            record = MergeRecord.read(path)
            path = self.files.predictions(model, dataset)
            if path.exists():  # without them, accuracies are still known
                metrics.check_predictions(path)
            path = self.files.spec(model, dataset)
            if path.exists() and sha256_of(path) != metrics.spec:
                return missing("measured under an older spec: rerun")
        except GenclassError as error:
            return missing(damaged(path, error))
        except OSError as error:
            return missing(f"{path}: {reason_of(error)}")
        extent = self._cells[model, dataset]
        return Evaluation(
            model,
            dataset,
            metrics.model_dump(mode="json"),
            record.model_dump(mode="json"),
            whole=extent.exhaustive >= extent.images,
        )


def damaged(path: Path, error: GenclassError) -> str:
    """Why a cell is missing, short, for a file that cannot be read or is not what it should be."""
    if str(error).endswith("delete it and rerun"):
        return f"damaged: delete {path} and rerun"
    return str(error)


def _unique_title(name: str, sections: Mapping[str, Model] | Mapping[str, Dataset]) -> str:
    title = sections[name].title
    alike = sum(1 for section in sections.values() if section.title == title)
    return title if alike == 1 else f"{title} ({name})"
