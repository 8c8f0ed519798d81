"""The paper's own numbers, from reports/paper.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from genclass.config import AggregationTable, Report
from genclass.errors import GenclassError
from genclass.section import Aggregation, Section
from genclass.text import did_you_mean

REPORTS = Path(__file__).parents[2] / "reports"
ROUNDING = 0.0005  # its accuracies are given to a tenth of a percent


@dataclass(frozen=True)
class PaperValue:
    """A number of the paper, and where it was read."""

    value: float
    row: str
    source: str


class _Row(Section):
    row: str
    table: str
    source: str


_R = TypeVar("_R", bound=_Row)


class _AccuracyRow(_Row):
    values: dict[str, float]  # by dataset


class _AggregationRow(_Row):
    dataset: str
    values: dict[Aggregation, dict[int, float]]  # by number of orders


class _Efficiency(Section):
    factor: float
    text: str
    source: str


class Paper(Section):
    """Everything in reports/paper.yaml."""

    sources: dict[str, str]
    accuracy: list[_AccuracyRow]
    aggregation: list[_AggregationRow]
    efficiency: _Efficiency

    @classmethod
    def load(cls, path: Path = REPORTS / "paper.yaml") -> Paper:
        """Read and check the file.

        Raises:
            GenclassError: it is missing, no YAML, or holds something wrong.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise GenclassError(f"{path}: cannot read it: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise GenclassError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise GenclassError(f"{path}: '{key}': {first['msg']}") from None

    def check(self, report: Report) -> None:
        """Do the tables name rows that there are? Asked before anything is computed.

        Raises:
            GenclassError: naming the first table that does not.
        """
        for name, table in report.tables.items():
            try:
                if isinstance(table, AggregationTable):
                    if table.paper:
                        self._find(table.paper, self.aggregation)
                    continue
                for row in (*(row.paper for row in table.rows), *table.paper_rows):
                    if row:
                        self._find(row, self.accuracy)
            except GenclassError as error:
                raise GenclassError(f"report.tables.{name}: {error}") from None

    def accuracy_of(self, row: str | None, dataset: str) -> PaperValue | None:
        """The paper's accuracy of a row on a dataset; None where it gives none.

        Raises:
            GenclassError: the row is in no table of the paper.
        """
        if row is None:
            return None
        entry = self._find(row, self.accuracy)
        value = entry.values.get(dataset)
        return None if value is None else self._value(value, entry)

    def aggregation_of(
        self, row: str | None, dataset: str, aggregation: Aggregation, budget: int
    ) -> PaperValue | None:
        """The paper's accuracy with an aggregation over `budget` orders, or None.

        Raises:
            GenclassError: the row is in no such table of the paper.
        """
        if row is None:
            return None
        entry = self._find(row, self.aggregation)
        value = entry.values.get(aggregation, {}).get(budget)
        if value is None or dataset != entry.dataset:
            return None
        return self._value(value, entry)

    @staticmethod
    def _find(row: str, rows: list[_R]) -> _R:
        for entry in rows:
            if entry.row == row:
                return entry
        hint = did_you_mean(row, [entry.row for entry in rows])
        raise GenclassError(f"reports/paper.yaml: unknown row '{row}' of a table's `paper`: {hint}")

    def _value(self, value: float, entry: _Row) -> PaperValue:
        return PaperValue(value, entry.row, f"{entry.table}; {self.sources[entry.source]}")
