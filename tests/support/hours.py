"""Nights that are made up: runs of some hours, from the paper's accuracies, without score files.

The budget, the wishes and the verdicts are the package's own; answers are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from genclass.analysis.sequential import PairedSet, difference_so_far
from genclass.config import Config
from genclass.jobs.rehearsal import is_right
from genclass.planning.allotment import Allotment, Cell
from genclass.planning.budget import CellCost, allot, main_rows
from genclass.reporting.arms import pairs_of
from genclass.reporting.claims import paired_set
from genclass.reporting.paper import Paper
from genclass.reporting.results import Evaluation, Results
from genclass.reporting.statements import Statements
from genclass.reporting.wishes import wishes


class MadeUpResults(Results):
    """A results folder that does not exist: some leading images of each cell are there."""

    def __init__(self, config: Config, accuracies: Mapping[Cell, float], seed: int) -> None:
        self.config = config
        self._cells = config.cells()
        self._accuracies, self._seed = accuracies, seed
        self._ids: dict[str, list[str]] = {}
        self._right: dict[tuple[str, str, int], pd.DataFrame] = {}
        self._paper = Paper.load()
        self.there: dict[Cell, int] = {}

    def evaluation(self, model: str, dataset: str) -> Evaluation:
        images = self.there.get((model, dataset), 0)
        if not images:
            return Evaluation(model, dataset, None, None, "not evaluated yet")
        races = self.model(model).races
        metrics: dict[str, Any] = {
            "images": images,
            "trials": self._cells[model, dataset].trials,
            "racing": races,
            "exhaustive": 0 if races else images,
            "control": None,
            "accuracy": {},
            "race_accuracy": [{"budget": b} for b in self._budgets(model, dataset)]
            if races
            else [],
        }
        return Evaluation(model, dataset, metrics, None)

    def judged(
        self,
        model: str,
        dataset: str,
        budget: int,
        aggregation: str,
        exhaustive: bool = False,
    ) -> pd.DataFrame | None:
        cell = model, dataset
        if budget not in self._budgets(*cell) or aggregation != "mean_log_p":
            return None
        key = *cell, budget
        if key not in self._right:
            ids = self._all(dataset)
            one = budget < self._cells[cell].trials
            right = is_right(
                len(ids),
                max(0.0, self._accuracies[cell] - (self._one_trial_less(dataset) if one else 0.0)),
                f"{self._seed} {model}" + (f" {budget}" if one else ""),
                f"{self._seed} {dataset}",
            )
            self._right[key] = pd.DataFrame(
                {"share": right * 1.0, "correct": right}, index=pd.Index(ids, dtype=object)
            )
        return self._right[key].iloc[: self.there.get(cell, 0)]

    def _budgets(self, model: str, dataset: str) -> list[int]:
        """One trial, and the whole budget."""
        return sorted({1, self._cells[model, dataset].trials})

    def _one_trial_less(self, dataset: str) -> float:
        """How much less accurate one trial is than all, as the paper has it of orders."""
        one, many = (
            self._paper.accuracy_of(f"RandAR-L without noise, K={number}", dataset)
            for number in (1, 20)
        )
        return many.value - one.value if one and many else 0.1

    def image_ids(self, dataset: str, models: object, exhaustive: object = ()) -> list[str]:
        return self._all(dataset)

    def _all(self, dataset: str) -> list[str]:
        if dataset not in self._ids:
            # Severities of one corruption hold the same images.
            name = dataset.rstrip("0123456789")
            number = self.config.datasets[dataset].images
            self._ids[dataset] = [f"{name}/{image}" for image in range(number)]
        return self._ids[dataset]


@dataclass(frozen=True)
class Night:
    """What is known after some hours.

    open, decided: comparisons, as (claim, title, test sets); widths: of the headline's intervals,
    by test set, in points.
    """

    spent: float
    open: frozenset[tuple[str, str, tuple[str, ...]]]
    decided: frozenset[tuple[str, str, tuple[str, ...]]]
    widths: dict[str, float]
    images: dict[Cell, int]


def night(
    config: Config,
    hours: float,
    costs: Mapping[Cell, CellCost],
    accuracies: Mapping[Cell, float],
    seed: int,
) -> Night:
    """A run of so many hours.

    costs: as planned; what an image takes in truth is another for each model, by a factor
    whose logarithm has a standard deviation of 0.3.
    """
    results, paper = MadeUpResults(config, accuracies, seed), Paper.load()
    random = np.random.default_rng(seed)
    truth = {name: float(np.exp(random.normal(0, 0.3))) for name in config.models}
    allotment: Allotment | None = None
    controls: Mapping[str, int] = {}
    spent = 0.0
    while True:
        wanted, decided = wishes(results, paper)
        seen = {model for model, _ in results.there}
        known = {
            cell: _at_work(
                cost,
                truth[cell[0]] if cell[0] in seen else 1.0,
                results.there.get(cell, 0),
                controls.get(cell[1], 0),
            )
            for cell, cost in costs.items()
        }
        found = allot(hours, spent, allotment, known, wanted, main_rows(config))
        if not found.more:
            break
        allotment, controls = found.allotment, found.allotment.exhaustive
        for cell, images in allotment.cells().items():
            there = results.there.get(cell, 0)
            cost = _at_work(costs[cell], truth[cell[0]], there, controls.get(cell[1], 0))
            spent += cost.of(images) / 3600
            results.there[cell] = max(images, there)
    key = lambda wish: (wish.claim, wish.title, wish.datasets)  # noqa: E731
    return Night(
        spent,
        frozenset(map(key, wanted)),
        frozenset(map(key, decided)),
        _widths(results, paper),
        dict(results.there),
    )


def _at_work(cost: CellCost, factor: float, there: int, controls: int) -> CellCost:
    """What a cell takes in truth, when so many images of it are there."""
    exhaustive = min(cost.control, controls)
    return replace(
        cost,
        seconds=cost.seconds * factor,
        whole_seconds=cost.whole_seconds * factor,
        exhaustive=exhaustive,
        scored=(range(there),),
        exhaustively=(range(min(there, exhaustive)),),
    )


def _widths(results: MadeUpResults, paper: Paper) -> dict[str, float]:
    statement = Statements.load(paper).claims[0]
    ((a, b), *_) = pairs_of(results, statement)
    widths = {}
    for dataset in statement.datasets:
        found = paired_set(results, a, b, dataset)
        if isinstance(found, PairedSet):
            interval = difference_so_far([found])
            widths[dataset] = 100 * (interval.high - interval.low)
    return widths


def claims_of(one: Night) -> set[str]:
    """The claims that have comparisons."""
    return {claim for claim, _, _ in one.open | one.decided}


def claims_decided(one: Night) -> int:
    """Claims whose comparisons are all decided in the mean over their test sets."""
    several = {
        claim: max(len(sets) for name, _, sets in one.open | one.decided if name == claim)
        for claim in claims_of(one)
    }
    waiting = {claim for claim, _, sets in one.open if len(sets) == several[claim]}
    return len(several.keys() - waiting)


def dearer_races(config: Config, cell: Cell, cost: CellCost, factor: float) -> CellCost:
    """If races over timesteps took so many times as long as planned; at most as whole scores."""
    if not cost.control or config.models[cell[0]].system.trial.exchangeable:
        return cost
    return replace(cost, seconds=min(cost.whole_seconds, factor * cost.seconds))
