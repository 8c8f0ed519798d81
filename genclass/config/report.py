"""The report: tables and gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from genclass.section import Aggregation, Name, PositiveInt, Section


class TableRow(Section):
    model: Name
    title: str | None = None
    trials: PositiveInt | None = None  # None: the whole budget
    aggregation: Aggregation = "mean_log_p"
    paper: str | None = None  # the row of reports/paper.yaml that it stands beside


class AccuracyTable(Section):
    """Rows are models at a budget, columns are datasets."""

    kind: Literal["accuracy"]
    title: str
    caption: str = ""
    rows: Annotated[list[TableRow], Field(min_length=1)]
    columns: Annotated[list[Name], Field(min_length=1)]
    mean: bool = False  # a last column: the mean over the datasets
    paper_rows: list[str] = []  # rows of reports/paper.yaml that nothing here is measured for


class AggregationTable(Section):
    """Rows are the aggregations over trials, columns are budgets."""

    kind: Literal["aggregation"]
    title: str
    caption: str = ""
    model: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    budgets: Annotated[list[PositiveInt], Field(min_length=1)]
    paper: str | None = None  # the row of reports/paper.yaml that it stands beside


Table = Annotated[AccuracyTable | AggregationTable, Field(discriminator="kind")]


class Gallery(Section):
    """Images that one of two models classifies right and the other wrong, with their evidence."""

    models: Annotated[list[Name], Field(min_length=2, max_length=2)]
    datasets: Annotated[list[Name], Field(min_length=1)]
    images: Annotated[int, Field(ge=1, le=50)] = 4  # of each dataset, right by the one; and again


class Report(Section):
    title: str
    tables: dict[Name, Table]  # the first is usually `main`
    gallery: list[Gallery] = []

    @property
    def main_table(self) -> AccuracyTable | None:
        """The accuracy table `main`, or the first one."""
        names = sorted(self.tables, key=lambda name: name != "main")
        found = (self.tables[name] for name in names)
        return next((table for table in found if isinstance(table, AccuracyTable)), None)

    @property
    def explained(self) -> dict[tuple[Name, Name, Name], int]:
        """(one model, other model, dataset) of the gallery -> how many images each way."""
        return {
            (section.models[0], section.models[1], dataset): section.images
            for section in self.gallery
            for dataset in section.datasets
        }

    @field_validator("tables", mode="before")
    @classmethod
    def _without_null(cls, tables: Any) -> Any:
        """A second config file leaves a table out by setting it to null."""
        if not isinstance(tables, Mapping):
            return tables
        return {name: table for name, table in tables.items() if table is not None}
