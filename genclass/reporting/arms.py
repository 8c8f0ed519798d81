"""Which models of a run stand on which side of a claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.measure import race_budgets
from genclass.reporting.results import Results
from genclass.reporting.statements import Side, Statement
from genclass.reporting.tables import Column, trial_noun
from genclass.section import Aggregation


@dataclass(frozen=True)
class Arm:
    """One side of a comparison."""

    model: str
    budget: int
    aggregation: Aggregation
    title: str
    paper: str | None  # its row of reports/paper.yaml


def claimed_datasets(results: Results, statement: Statement) -> tuple[Column, ...]:
    """The claim's, or what it tells to take where the config has none of them: its own of that kind
    (none, if there are none), or the main table's columns.
    """
    assert results.main_table
    known = results.config.datasets
    names = statement.datasets
    if not any(name in known for name in names):
        names = [name for name in statement.instead if name in known]
        if not statement.instead:
            names = results.main_table.columns
    return tuple(
        Column(name, results.dataset_title(name) if name in known else name) for name in names
    )


def _arms(results: Results, side: Side) -> list[Arm]:
    """The models of the main table that play the side's role, each once."""
    assert results.main_table
    sized = any(model.network.size_name == side.size for model in results.config.models.values())
    arms: dict[str, Arm] = {}
    for row in results.main_table.rows:
        model = results.model(row.model)
        if model.system.role not in side.role or (sized and model.network.size_name != side.size):
            continue
        if model.system.role == "any-order" and side.budget == "whole" and model.trials == 1:
            continue  # nothing is averaged
        whole = (row.trials or model.trials) == model.trials
        if row.model not in arms or (whole and row.aggregation == "mean_log_p"):
            told = row.paper if whole else None
            arms[row.model] = _arm(results, row.model, side, told or side.paper)
    return list(arms.values())


def _arm(results: Results, name: str, side: Side, paper: str | None) -> Arm:
    model = results.model(name)
    budget = 1 if side.budget == "one" else model.trials
    title = results.model_title(name)
    if budget != model.trials:
        title += f", {trial_noun(model, budget)}"
    return Arm(name, budget, side.aggregation, title, paper)


def pairs_of(results: Results, statement: Statement) -> list[tuple[Arm, Arm]]:
    """Every first with every second of its size; where no sizes are alike, with every second."""
    firsts = _arms(results, statement.first)
    if statement.same_model:
        pairs = [
            (a, _arm(results, a.model, statement.second, statement.second.paper)) for a in firsts
        ]
        return [
            pair
            for pair in pairs
            if results.is_scored_whole(pair[0].model)
            or all(races_tell(results, arm) for arm in pair)
        ]
    everything = [(a, b) for a in firsts for b in _arms(results, statement.second)]
    alike = [
        (a, b)
        for a, b in everything
        if results.model(a.model).network.size_name == results.model(b.model).network.size_name
    ]
    return alike or everything


def races_tell(results: Results, arm: Arm) -> bool:
    """Has a race an answer of every image at this budget?"""
    model = results.model(arm.model)
    exchangeable = model.system.trial.exchangeable
    budgets = race_budgets(model.strategy, exchangeable, model.trials)
    return arm.aggregation == MEAN_LOG_P and arm.budget in budgets


def told_exhaustively(results: Results, arms: Iterable[Arm], dataset: str) -> set[str]:
    """The models whose exhaustive scores are compared on a test set, not their races' answers: of a
    model on both sides for both, so that both are of the same images."""
    return {
        arm.model
        for arm in arms
        if not results.evaluation(arm.model, dataset).is_of_races(arm.budget, arm.aggregation)
    }


def what_is_lacking(results: Results, statement: Statement) -> str:
    """What no model of the config is, or that it has no test set."""
    for side in (statement.first, statement.second):
        if side.role and not _arms(results, side):
            sized = any(
                model.network.size_name == side.size for model in results.config.models.values()
            )
            size = f" of size {side.size}" if sized else ""
            return f"{' or '.join(side.role)} model{size} in the main table"
    if not claimed_datasets(results, statement):
        return "test set of this kind"
    return "model that is scored exhaustively in the main table"


def told_by_scores(
    results: Results, pairs: list[tuple[Arm, Arm]], datasets: tuple[Column, ...]
) -> list[tuple[Arm, Arm]]:
    """Without the races of networks whose exhaustive scores are there: what a network is worth is
    told by all its scores, its races tell what it costs."""

    def network(arm: Arm) -> tuple[str, str]:
        model = results.model(arm.model)
        return model.network.model_dump_json(), model.classifier.model_dump_json()

    def complete(arm: Arm) -> bool:
        return not any(results.evaluation(arm.model, column.key).missing for column in datasets)

    arms = dict.fromkeys(arm for pair in pairs for arm in pair)
    races = {arm for arm in arms if results.model(arm.model).races}
    whole = {network(arm): arm for arm in arms if arm not in races}
    left_out = set()
    for race in races:
        twin = whole.get(network(race))
        if twin:
            left_out.add(twin if complete(race) and not complete(twin) else race)
    return [pair for pair in pairs if not left_out & set(pair)]
