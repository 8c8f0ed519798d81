"""What a rehearsal takes for true: the paper's accuracies, and guesses where it gives none."""

from __future__ import annotations

from statistics import mean

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.config import AccuracyTable, Config
from genclass.planning.allotment import Cell
from genclass.reporting.paper import Paper
from genclass.reporting.statements import Statements

HARDER = 0.75  # of the accuracy on the first test set: on one that the paper has no numbers of


def assumed_accuracies(config: Config, paper: Paper, statements: Statements) -> dict[Cell, float]:
    """Of every cell at its whole budget.

    The paper's, by the rows of the tables; else the mean of the paper's of models that play the
    same role on the test set, else of all there. On a test set that it gives no numbers of,
    `HARDER` of what it is on the first one, less a claim's difference on its second side.
    """
    told: dict[Cell, float] = {}
    for table in config.report.tables.values():
        if not isinstance(table, AccuracyTable):
            continue
        for row in table.rows:
            whole = row.trials in (None, config.models[row.model].trials)
            if whole and row.aggregation == MEAN_LOG_P:
                for dataset in table.columns:
                    if known := paper.accuracy_of(row.paper, dataset):
                        told.setdefault((row.model, dataset), known.value)
    roles = {model: config.models[model].system.role for model, _ in config.cells()}
    behind = {
        (role, dataset): statement.difference
        for statement in statements.claims
        if statement.difference is not None
        for role in statement.second.role
        for dataset in statement.datasets
    }

    def guessed(model: str, dataset: str) -> float | None:
        if (model, dataset) in told:
            return told[model, dataset]
        there = {other: v for (other, where), v in told.items() if where == dataset}
        alike = [v for other, v in there.items() if roles.get(other) == roles[model]]
        return mean(alike or there.values()) if there else None

    first = next((dataset for _, dataset in told), None)
    found = {}
    for model, dataset in config.cells():
        value = guessed(model, dataset)
        if value is None:
            easy = guessed(model, first) if first else None
            value = HARDER * (easy or 0.8) - behind.get((roles[model], dataset), 0.0)
        found[model, dataset] = value
    return found
