"""Tables of cells. One object renders JSON, CSV, LaTeX, plain text, and (by the page) HTML."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from scipy.stats import norm

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.contrasts import Contrast
from genclass.analysis.intervals import CONFIDENCE, Estimate, mean_over_sets, trial_noise
from genclass.analysis.measure import aggregations_of, kept_budgets
from genclass.analysis.sequential import PairedSet, mean_so_far
from genclass.analysis.verdicts import Word
from genclass.config import AccuracyTable, AggregationTable, Model
from genclass.reporting.paper import ROUNDING, Paper, PaperValue
from genclass.reporting.results import Evaluation, Results
from genclass.section import Aggregation

Unit = Literal["percent", "points", "factor", "error"]
Verdict = Literal["agrees", "higher", "lower"]

AGGREGATION_TITLES = {
    "mean_log_p": "mean log p",
    "mean_softmax": "mean softmax",
    "logsumexp": "logsumexp",
}
NOT_OF_A_RACE = "a race: of its images, none is scored exhaustively"
UNIT_NOTES = {
    "percent": "%",
    "points": "percentage points",
    "factor": "times",
    "error": "0 is perfect",
}


_CSV_COLUMNS = (
    *("group", "row", "column", "value", "low", "high", "images", "budget", "groups", "deviation"),
    *("paper", "paper_source", "difference", "verdict", "verdict_trials", "missing", "to_come"),
)


@dataclass(frozen=True)
class Origin:
    """What stands behind a cell: an evaluation, at a budget."""

    model: str
    dataset: str
    budget: int
    aggregation: str
    spec: str  # sha256
    files: tuple[dict[str, Any], ...]  # of scores: file, sha256, seconds, device
    seconds: dict[str, float]  # by device, of all files
    command: str  # that computes the scores again


@dataclass(frozen=True)
class Cell:
    """One number of a table, or why there is none.

    `estimate` is a share (0..1) for percent and points, a plain number for the other units. `word`:
    what a comparison says. `trial_error`: the standard error that the choice of trials gives to the
    difference of two runs on these images; None: not known.
    """

    estimate: Estimate | None = None
    missing: str = ""
    unit: Unit = "percent"
    at_least: bool = False  # the value is a lower bound
    lower_end_only: bool = False  # of its interval nothing else is known
    counted: bool = False  # no estimate: it has no interval
    images: int | None = None
    to_come: int = 0  # images that the config asks for besides: the interval holds at every look
    budget: int | None = None
    groups: int | None = None  # disjoint groups of trials that the value is the mean of
    deviation: float | None = None  # of these groups
    paper: PaperValue | None = None
    trial_error: float | None = None
    paired: Contrast | None = None  # of a comparison on the same images
    word: Word | None = None
    notes: tuple[tuple[str, str], ...] = ()  # more to say about it: (what, value)
    origins: tuple[Origin, ...] = ()

    @property
    def display(self) -> str:
        if not self.estimate:
            return ""
        return ("≥ " if self.at_least else "") + show(self.estimate.value, self.unit)

    @property
    def interval_display(self) -> str:
        if not self.estimate or self.counted:
            return ""
        unit = self.unit
        if self.lower_end_only:
            return f"lower end {show(self.estimate.low, unit)}"
        low, high = (show(v, unit).lstrip("+") for v in (self.estimate.low, self.estimate.high))
        return f"{low} to {high}" if unit in ("points", "factor") else f"{low}–{high}"

    @property
    def images_display(self) -> str:
        """'2,000', or '412 of 2,000'."""
        if self.images is None:
            return ""
        total = f" of {self.images + self.to_come:,}" if self.to_come else ""
        return f"{self.images:,}{total}"

    @property
    def difference(self) -> float | None:
        """Measured minus paper."""
        if not self.estimate or not self.paper:
            return None
        return self.estimate.value - self.paper.value

    @property
    def verdict(self) -> Verdict | None:
        """Is the paper's value inside the 95 % interval, which is that of other images?

        The paper's images are the same: a mistake that is smaller than this agrees, too.
        """
        if not self.estimate or not self.paper:
            return None
        if self.estimate.low <= self.paper.value <= self.estimate.high:
            return "agrees"
        return "higher" if self.estimate.value > self.paper.value else "lower"

    @property
    def verdict_trials(self) -> Verdict | None:
        """Is it as close to the paper's as other trials on the same images would be? None: not
        known.

        Two runs differ by less in 95 % of cases; the paper's value is rounded besides.
        """
        if self.difference is None or self.trial_error is None:
            return None
        within = float(norm.ppf(0.5 + CONFIDENCE / 2)) * self.trial_error + ROUNDING
        if abs(self.difference) <= within:
            return "agrees"
        return "higher" if self.difference > 0 else "lower"

    def as_json(self) -> dict[str, Any]:
        cell: dict[str, Any] = {
            "value": self.estimate.value if self.estimate else None,
            "low": self.estimate.low if self.estimate else None,
            "high": self.estimate.high if self.estimate and not self.lower_end_only else None,
            "at_least": self.at_least,
            "display": self.display,
            "interval": self.interval_display,
            "missing": self.missing or None,
            "images": self.images,
            "to_come": self.to_come,
            "budget": self.budget,
            "groups": self.groups,
            "deviation": self.deviation,
            "paper": None,
            "difference": self.difference,
            "verdict": self.verdict,
            "verdict_trials": self.verdict_trials,
            "word": self.word,
            "paired": None,
            "notes": dict(self.notes),
            "origins": [
                {
                    "model": o.model,
                    "dataset": o.dataset,
                    "budget": o.budget,
                    "aggregation": o.aggregation,
                    "spec": o.spec,
                    "seconds": o.seconds,
                    "command": o.command,
                    "files": list(o.files),
                }
                for o in self.origins
            ],
        }
        if self.paper:
            paper = self.paper
            cell["paper"] = {"value": paper.value, "row": paper.row, "source": paper.source}
        if self.paired:
            test = self.paired
            cell["paired"] = {
                "test": test.test,
                "p": test.p_value,
                "only_first": test.only_first,
                "only_second": test.only_second,
            }
        return cell


@dataclass(frozen=True)
class Row:
    title: str
    cells: tuple[Cell, ...]
    group: str = ""  # rows of one group stand under one heading
    facts: dict[str, Any] = field(default_factory=dict)  # e.g. model and aggregation, for JSON


@dataclass(frozen=True)
class Column:
    key: str  # a dataset's name where the column is one: the page filters by it
    title: str


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    caption: str
    stub: str  # the heading of the row titles
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    unit: Unit = "percent"
    best_within_groups: bool = False

    @property
    def groups(self) -> list[tuple[str, list[tuple[int, Row]]]]:
        """Rows, each with its place in the table, under their groups' headings."""
        groups: dict[str, list[tuple[int, Row]]] = {}
        for place, row in enumerate(self.rows):
            groups.setdefault(row.group, []).append((place, row))
        return list(groups.items())

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "caption": self.caption,
            "unit": UNIT_NOTES[self.unit],
            "columns": [{"key": c.key, "title": c.title} for c in self.columns],
            "rows": [
                {
                    "title": row.title,
                    "group": row.group,
                    **row.facts,
                    "cells": {
                        column.key: cell.as_json()
                        for column, cell in zip(self.columns, row.cells, strict=True)
                    },
                }
                for row in self.rows
            ],
        }

    def as_csv(self, warning: str = "") -> str:
        """One line a cell; shares are 0..1. A warning is a column: readers take no other line."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")

        def write(first: str, others: Sequence[object]) -> None:
            row = [first, *others] if warning else others
            writer.writerow([_inert(c) if isinstance(c, str) else c for c in row])

        write("warning", _CSV_COLUMNS)
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                estimate, paper = cell.estimate, cell.paper
                bounds: tuple[object, ...] = ("", "", "")
                if estimate:
                    high = "" if cell.lower_end_only else estimate.high
                    bounds = (estimate.value, estimate.low, high)
                values = (cell.images, cell.budget, cell.groups, cell.deviation)
                reported = (paper.value, paper.source) if paper else ("", "")
                verdict = (
                    cell.difference,
                    cell.verdict,
                    cell.verdict_trials,
                    cell.missing,
                    cell.to_come,
                )
                names = (row.group, row.title, column.key)
                write(warning, (*names, *bounds, *values, *reported, *verdict))
        return buffer.getvalue()

    def as_latex(self, warning: str = "") -> str:
        """A booktabs table: value, interval below it in small print, the paper's in brackets."""
        width = len(self.columns) + 1
        lines = [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{latex(self._heading(warning))} ({latex(UNIT_NOTES[self.unit])}), 95\,\%"
            rf" interval beside it{latex(self._brackets)}. {latex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            " & ".join([latex(self.stub), *(latex(c.title) for c in self.columns)]) + r" \\",
        ]
        for group, rows in self.groups:
            lines.append(r"\midrule")
            if group:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\itshape {latex(group)}}} \\")
            for _, row in rows:
                cells = [_latex_cell(cell) for cell in row.cells]
                lines.append(" & ".join([latex(row.title), *cells]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        return "\n".join(lines)

    def as_text(self, warning: str = "") -> str:
        """For a terminal: values alone, aligned; in brackets the paper's, where it stands alone."""

        def text(cell: Cell) -> str:
            if cell.estimate or not cell.paper:
                return cell.display or "-"
            return f"({show(cell.paper.value, cell.unit)})"

        header = [self.stub, *(column.title for column in self.columns)]
        body = [[row.title, *map(text, row.cells)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]

        def line(texts: Sequence[str]) -> str:
            first, *others = zip(texts, widths, strict=True)
            return "  ".join([first[0].ljust(first[1]), *(t.rjust(w) for t, w in others)]).rstrip()

        alone = any(c.paper and not c.estimate for row in self.rows for c in row.cells)
        note = f"{UNIT_NOTES[self.unit]}{self._brackets if alone else ''}"
        heading = f"{self._heading(warning)} ({note})"
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([heading, line(header), rule, *map(line, body)])

    @property
    def has_intervals(self) -> bool:
        """Is a number in it an estimate?"""
        return any(cell.interval_display for row in self.rows for cell in row.cells)

    @property
    def has_paper(self) -> bool:
        """Does a value of the paper stand in it?"""
        return any(cell.paper for row in self.rows for cell in row.cells)

    def _heading(self, warning: str) -> str:
        return f"{warning}: {self.title}" if warning else self.title

    @property
    def _brackets(self) -> str:
        return "; in brackets: the paper (secondary source)" if self.has_paper else ""

    def is_best(self, place: int, column: int) -> bool:
        """Is this cell the highest of its column, or of its group's part of it?"""
        group = self.rows[place].group
        rivals = [r for r in self.rows if r.group == group or not self.best_within_groups]
        values = [row.cells[column].estimate for row in rivals]
        highest = max((e.value for e in values if e), default=None)
        estimate = self.rows[place].cells[column].estimate
        return len(rivals) > 1 and estimate is not None and estimate.value == highest


def show(value: float, unit: Unit) -> str:
    """A number as people read it, without its unit's name."""
    if unit == "percent":
        return f"{100 * value:.1f}"
    if unit == "points":
        return f"{100 * value:+.1f}".replace("-", "−")
    if unit == "error":
        return f"{value:.3f}"
    if value == 0:
        return "never"
    return f"{value:.2g}×" if value < 10 else f"{value:.0f}×"


def trial_noun(model: Model, number: int) -> str:
    """'1 order', '20 orders', '250 timesteps'."""
    return model.system.trial.counted(number)


def build_tables(results: Results, paper: Paper) -> list[Table]:
    """The tables of the config's report section: `main` first, then in its order.

    Raises:
        GenclassError: a table names a row that reports/paper.yaml does not know.
    """
    return [
        _accuracy_table(name, table, results, paper)
        if isinstance(table, AccuracyTable)
        else _aggregation_table(name, table, results, paper)
        for name, table in sorted(
            results.config.report.tables.items(), key=lambda item: item[0] != "main"
        )
    ]


def accuracy_cell(
    results: Results,
    model: str,
    dataset: str,
    trials: int | None,
    aggregation: Aggregation,
    exhaustive: bool = False,
) -> Cell:
    """The accuracy of a model on a dataset with a budget (None: the whole one).

    exhaustive: of a race, too, that of exhaustive scores, where there are any.
    """
    evaluation = results.evaluation(model, dataset)
    if evaluation.missing:
        return Cell(missing=evaluation.missing)
    budget = trials or results.config.cells()[model, dataset].trials
    if budget > evaluation.trials:
        return Cell(missing=f"budget {budget} asked, {evaluation.trials} evaluated")
    system = results.model(model).system
    if aggregation not in aggregations_of(system.likelihood):
        return Cell(missing=f"{AGGREGATION_TITLES[aggregation]} has no meaning for {system.role}")
    entry = evaluation.budget_entry(budget, aggregation, exhaustive)
    if entry is None:
        return Cell(missing=NOT_OF_A_RACE if evaluation.raced else "not in its metrics: rerun")
    return Cell(
        estimate=results.accuracy(evaluation, budget, aggregation, exhaustive),
        images=entry["images"],
        to_come=results.asked(evaluation, (budget, aggregation), exhaustive) - entry["images"],
        budget=budget,
        groups=len(entry["groups"]),
        deviation=entry["deviation"],
        trial_error=_trial_error(results, evaluation, budget, aggregation),
        origins=(origin(results, evaluation, budget, aggregation),),
    )


def _trial_error(
    results: Results, evaluation: Evaluation, budget: int, aggregation: Aggregation
) -> float | None:
    """How much two runs on these images differ by the choice of trials: a standard error.

    From the disjoint groups of the largest budget, up to this one, that there are two groups of: a
    half's noise for the whole budget, which is more than the whole has. None where trials are not
    exchangeable, where classes were left out, and where there is one trial.
    """
    model = results.model(evaluation.model)
    if evaluation.raced or aggregation != MEAN_LOG_P or not has_exchangeable_trials(model):
        return None
    trials = evaluation.trials
    measured = [b for b in kept_budgets(trials) if b <= budget and trials // b > 1]
    if not measured:
        return None
    frame = results.judged(evaluation.model, evaluation.dataset, measured[-1], aggregation)
    if frame is None:
        return None
    one_run = trial_noise(frame["share"].to_numpy(float), trials // measured[-1])
    return math.sqrt(one_run * (1 + 1 / (trials // budget)))


def has_exchangeable_trials(model: Model) -> bool:
    """Is a trial as good as any other, as random orders are? Timesteps are not."""
    return model.system.trial.exchangeable and model.system.trial.limit is None


def origin(results: Results, evaluation: Evaluation, budget: int, aggregation: str) -> Origin:
    """The score files behind an evaluation, and how to compute them again."""
    assert evaluation.metrics and evaluation.record
    target = results.files.merged(evaluation.model, evaluation.dataset)
    config = results.files.config
    files = tuple(
        {key: part[key] for key in ("file", "sha256", "seconds", "device")}
        for part in evaluation.record["shards"]
    )
    return Origin(
        evaluation.model,
        evaluation.dataset,
        budget,
        aggregation,
        evaluation.metrics["spec"],
        files,
        evaluation.seconds,
        f"snakemake --configfile {shlex.quote(str(config))} --forcerun evaluate"
        f" -- {shlex.quote(str(target))}",
    )


def mean_cell(
    cells: Sequence[Cell], sets: Sequence[PairedSet | None], columns: Sequence[Column]
) -> Cell:
    """The mean over datasets; only where none is missing.

    Args:
        cells: one a dataset.
        sets: what each of them is the mean of: a share for every image.
        columns: the datasets.
    """
    absent = [c.title for c, cell in zip(columns, cells, strict=True) if cell.estimate is None]
    if absent:
        return Cell(missing=f"without {absent[0]}" + (" and others" if len(absent) > 1 else ""))
    known = [one for one in sets if one is not None]
    if len(known) < len(sets):
        return Cell(missing="no predictions at this budget")
    to_come = sum(cell.to_come for cell in cells)
    found = mean_over_sets([one.differences for one in known]).estimate
    if to_come:
        sequence = mean_so_far(known)
        found = replace(
            found, low=min(sequence.low, found.value), high=max(sequence.high, found.value)
        )
    papers = [cell.paper for cell in cells if cell.paper]
    paper = _paper_mean(papers) if len(papers) == len(cells) else None
    errors = [cell.trial_error for cell in cells if cell.trial_error is not None]
    known_errors = len(errors) == len(cells)
    return Cell(
        estimate=found,
        unit=cells[0].unit,
        images=sum(cell.images or 0 for cell in cells),
        to_come=to_come,
        paper=paper,
        trial_error=math.hypot(*errors) / len(errors) if known_errors else None,
        notes=(("Mean of", ", ".join(column.title for column in columns)),),
    )


def _shares(
    results: Results, model: str, dataset: str, budget: int, aggregation: str
) -> PairedSet | None:
    """The share of a model's right answers, image by image."""
    frame = results.judged(model, dataset, budget, aggregation)
    if frame is None:
        return None
    of_races = results.evaluation(model, dataset).is_of_races(budget, aggregation)
    to_come = results.image_ids(dataset, [model], () if of_races else [model])[len(frame) :]
    return PairedSet(dataset, frame["share"].astype(float), tuple(to_come))


def _paper_mean(values: Sequence[PaperValue]) -> PaperValue:
    value = sum(v.value for v in values) / len(values)
    return PaperValue(value, values[0].row, f"mean of its values; {values[0].source}")


def show_p(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula and runs; JSON keeps the plain one.

    As OWASP advises against CSV injection: an apostrophe before = + - @, tab, or line break.
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def latex(text: str) -> str:
    """Text with every character that LaTeX would read as a command escaped."""
    return text.translate(_LATEX)


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "−": r"$-$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "–": "--",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _latex_cell(cell: Cell) -> str:
    paper = rf" [{latex(show(cell.paper.value, cell.unit))}]" if cell.paper else ""
    if not cell.estimate:
        return f"--{paper}"
    interval = latex(cell.interval_display)
    small = rf" {{\scriptsize {interval}}}" if interval else ""
    return f"{latex(cell.display)}{small}{paper}"


def _accuracy_table(name: str, table: AccuracyTable, results: Results, paper: Paper) -> Table:
    datasets = [Column(d, results.dataset_title(d)) for d in table.columns]
    rows = []
    for row in table.rows:
        model = results.model(row.model)
        cells = [
            replace(
                accuracy_cell(results, row.model, column.key, row.trials, row.aggregation),
                paper=paper.accuracy_of(row.paper, column.key),
            )
            for column in datasets
        ]
        if table.mean:
            sets = [
                _shares(results, row.model, column.key, cell.budget or 0, row.aggregation)
                for column, cell in zip(datasets, cells, strict=True)
            ]
            cells.append(mean_cell(cells, sets, datasets))
        title = row.title or results.model_title(row.model)
        if row.title is None and model.trials > 1:
            title += f", {trial_noun(model, row.trials or model.trials)}"
        if row.title is None and row.aggregation != MEAN_LOG_P:
            title += f", {AGGREGATION_TITLES[row.aggregation]}"
        facts = {"model": row.model, "trials": row.trials, "aggregation": row.aggregation}
        rows.append(Row(title, tuple(cells), model.group, facts))
    for key in table.paper_rows:
        cells = [_paper_cell(paper.accuracy_of(key, column.key)) for column in datasets]
        if table.mean:
            values = [cell.paper for cell in cells if cell.paper]
            complete = len(values) == len(cells)
            cells.append(_paper_cell(_paper_mean(values) if complete else None))
        rows.append(Row(key, tuple(cells), "Reported by the paper, not measured here"))
    columns = [*datasets, Column("mean", "Mean")] if table.mean else datasets
    return Table(name, table.title, table.caption, "Model", tuple(columns), tuple(rows))


def _paper_cell(value: PaperValue | None) -> Cell:
    return Cell(missing="not measured" if value else "not given", paper=value)


def _aggregation_table(name: str, table: AggregationTable, results: Results, paper: Paper) -> Table:
    model = results.model(table.model)
    columns = tuple(Column(f"{b}", trial_noun(model, b)) for b in table.budgets)
    rows = []
    for dataset in table.datasets:
        for aggregation in get_args(Aggregation):
            cells = tuple(
                replace(
                    # All on the same images, so that they may be compared.
                    accuracy_cell(results, table.model, dataset, budget, aggregation, True),
                    paper=paper.aggregation_of(table.paper, dataset, aggregation, budget),
                )
                for budget in table.budgets
            )
            facts = {"model": table.model, "dataset": dataset, "aggregation": aggregation}
            title = AGGREGATION_TITLES[aggregation]
            rows.append(Row(title, cells, results.dataset_title(dataset), facts))
    title = f"{table.title}: {results.model_title(table.model)}"
    return Table(
        name,
        title,
        table.caption,
        "Aggregation",
        columns,
        tuple(rows),
        best_within_groups=True,
    )
