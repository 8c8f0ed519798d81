"""Which of the paper's claims hold in this run: one contrast each, fixed in reports/claims.yaml.

docs/statistics.md says what each word and number on the page means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genclass.analysis.sequential import ENOUGH, PairedSet
from genclass.analysis.verdicts import Judgement, Word, adjust, judge
from genclass.reporting.arms import (
    Arm,
    claimed_datasets,
    pairs_of,
    told_by_scores,
    told_exhaustively,
    what_is_lacking,
)
from genclass.reporting.factors import HOW_SECONDS_ARE_MEANT, FactorRows, compare_costs
from genclass.reporting.paper import Paper, PaperValue
from genclass.reporting.results import Results
from genclass.reporting.sentences import (
    SAID,
    leans_on_races,
    listed,
    one_by_one,
    progress,
    result,
    title_of,
    what_would_decide,
)
from genclass.reporting.statements import Statement, Statements
from genclass.reporting.tables import (
    Cell,
    Column,
    Row,
    Table,
    origin,
    show_p,
)

Kind = Literal["holds", "reversed", "undecided", "untested"]


@dataclass(frozen=True)
class Comparison:
    """Two arms on a claim's test sets.

    word: of the mean over the test sets; "undecided" where one of them is not there. sentences: the
    first says the result. row: a cell a test set, and their mean; for costs in the leading unit.
    """

    title: str
    word: Word
    reversed_on: tuple[str, ...]  # titles of single test sets
    sentences: tuple[str, ...]
    row: Row
    judgement: Judgement | None = None  # None: nothing is there, or costs are compared


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with the comparisons that test it."""

    statement: Statement
    source: str
    datasets: tuple[Column, ...]
    comparisons: tuple[Comparison, ...] = ()
    lacking: str = ""  # what no model of the config is, so that it is not tested
    every_factor: tuple[Row, ...] = ()  # of costs: in each unit, at each side's protocol
    of_races: tuple[Row, ...] = ()  # of costs: the races'

    @property
    def name(self) -> str:
        return self.statement.name

    @property
    def unit(self) -> Literal["points", "factor"]:
        return "factor" if self.statement.measure == "cost" else "points"

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(comparison.row for comparison in self.comparisons)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of `rows`: the datasets and, of several, their mean."""
        return with_mean(self.datasets)

    @property
    def kind(self) -> Kind:
        """It holds where all comparisons do, is reversed where any is."""
        words = Counter(comparison.word for comparison in self.comparisons)
        if not words:
            return "untested"
        if words["holds"] == words.total():
            return "holds"
        return "reversed" if words["reversed"] else "undecided"

    @property
    def verdict(self) -> str:
        """In a few words, e.g. 'holds in the mean over 4 test sets, reversed on ImageNet-A'."""
        kind = self.kind
        if kind == "untested":
            return f"not tested here: no {self.lacking}"
        words = Counter(comparison.word for comparison in self.comparisons)
        number = words.total()
        several = len(self.datasets) > 1
        place = (
            f"in the mean over {len(self.datasets)} test sets"
            if several
            else (f"on {self.datasets[0].title}")
        )
        if kind == "undecided":
            text = f"undecided {place}"
            if number > 1:
                text += f", in {words['undecided']} of {number} comparisons"
        elif number > 1:
            count = f"all {number}" if kind == "holds" else f"{words['reversed']} of {number}"
            text = f"{kind} in {count} comparisons, {place}"
        else:
            text = f"{kind} {place}"
        on = dict.fromkeys(t for one in self.comparisons for t in one.reversed_on)
        if on and several:
            text += f", reversed on {listed(list(on))}"
        return text

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(text for one in self.comparisons for text in one.sentences)


def with_mean(datasets: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a claim's table."""
    return (*datasets, Column("mean", "Mean")) if len(datasets) > 1 else datasets


def outcome_of(cell: Cell) -> Word | None:
    """What a cell of a comparison says."""
    return cell.word


def build_claims(
    results: Results, paper: Paper, statements: Statements | None = None
) -> list[Claim]:
    """Every claim, tested with the rows of the main table (`main`, or the first one); none where
    the config has no such table.

    Works on what is there: a test set with images to come is judged by evidence that holds whenever
    one looks, and says how many images it has.

    Args:
        statements: None: those of reports/claims.yaml.

    Raises:
        GenclassError: reports/claims.yaml is wrong, or a model has a role that it does not know.
    """
    if results.main_table is None:
        return []
    return [
        _costs(results, paper, statement)
        if statement.measure == "cost"
        else _accuracy(results, paper, statement)
        for statement in (statements or Statements.load(paper)).claims
    ]


def claims_tables(claims: Sequence[Claim]) -> list[Table]:
    """Every paired comparison, a table for each selection of test sets that claims name."""
    tested = [claim for claim in claims if claim.rows and claim.unit == "points"]
    by_columns: dict[tuple[Column, ...], list[Claim]] = {}
    for claim in tested:
        by_columns.setdefault(claim.columns, []).append(claim)
    ordered = sorted(by_columns.items(), key=lambda item: -len(item[0]))
    return [
        Table(
            "claims" if not place else f"claims-{place + 1}",
            "Paired comparisons" + (f": {columns[0].title}" if len(columns) == 1 else ""),
            "Accuracy of the first minus accuracy of the second on the same images. The intervals "
            "of single test sets are not adjusted for being several; their colours are. Open a "
            "cell for its test.",
            "Comparison",
            columns,
            tuple(row for claim in found for row in claim.rows),
            "points",
        )
        for place, (columns, found) in enumerate(ordered)
    ]


# ---- accuracies


def _accuracy(results: Results, paper: Paper, statement: Statement) -> Claim:
    datasets = claimed_datasets(results, statement)
    source = f"{statement.source.table}; {paper.sources[statement.source.told]}"
    pairs = told_by_scores(results, pairs_of(results, statement), datasets)
    if not pairs or not datasets:
        return Claim(statement, source, datasets, lacking=what_is_lacking(results, statement))
    tested = [_compare(results, paper, statement, a, b, datasets) for a, b in pairs]
    judged = [one.judgement for one in tested if one.judgement]
    if len(judged) > 1:
        # Any of several that is reversed is named: their errors together stay at the level.
        reversed_ = iter([one.word == "reversed" for one in adjust(judged)])
        tested = [
            replace(one, word="undecided")
            if one.judgement and not next(reversed_) and one.word == "reversed"
            else one
            for one in tested
        ]
    return Claim(statement, source, datasets, tuple(tested))


def _compare(
    results: Results,
    paper: Paper,
    statement: Statement,
    a: Arm,
    b: Arm,
    datasets: tuple[Column, ...],
) -> Comparison:
    found = [paired_set(results, a, b, column.key) for column in datasets]
    sets = [one for one in found if isinstance(one, PairedSet)]
    gaps = [
        f"without {column.title}: {one}"
        for column, one in zip(datasets, found, strict=True)
        if isinstance(one, str)
    ]
    papers = [paper_difference(paper, a, b, column.key) for column in datasets]
    singles = iter(adjust([judge([one], statement.margin) for one in sets]))
    cells: list[Cell] = []
    for column, one, told in zip(datasets, found, papers, strict=True):
        if isinstance(one, str):
            cells.append(Cell(missing=one, unit="points", paper=told))
            continue
        single = next(singles)
        adjusted = len(sets) > 1
        cells.append(_cell(results, (a, b), column, one, single, told, adjusted))
    facts = {
        "claim": statement.name,
        "first": {"model": a.model, "budget": a.budget, "aggregation": a.aggregation},
        "second": {"model": b.model, "budget": b.budget, "aggregation": b.aggregation},
    }
    title = title_of(results, a, b)
    if not sets:
        mean = (Cell(missing="no test set to take it over", unit="points"),)
        row = Row(title, (*cells, *(mean if len(datasets) > 1 else ())), facts=facts)
        return Comparison(title, "undecided", (), (f"{title}: nothing yet, {gaps[0]}.",), row)
    told = _paper_mean(paper, statement, papers)
    judgement = judge(sets, statement.margin)
    if len(datasets) > 1:
        cells.append(_mean_cell(datasets, sets, judgement, told, gaps))
    else:
        cells[0] = replace(cells[0], word=judgement.word, paper=told)
    word: Word = "undecided" if gaps else judgement.word
    sentences = [result(statement, a, b, sets, judgement, word)]
    sentences += [f"Undecided {gap}." for gap in gaps]
    if word == "undecided" and not gaps:
        sentences += what_would_decide(judgement, told, sets)
    if judgement.earlier:
        sentences.append(
            f"After {judgement.looks.after:,} images of each test set it was "
            f"{SAID[judgement.earlier]}; with all that are there now it is {SAID[word]}."
        )
    if word != "undecided" and (leaning := leans_on_races(results, statement, a, b, sets, word)):
        sentences.append(leaning)
    lost: tuple[str, ...] = ()
    if len(datasets) > 1:
        words = [cell.word for cell in cells[:-1]]
        lost = tuple(
            column.title
            for column, cell_word in zip(datasets, words, strict=True)
            if cell_word == "reversed"
        )
        sentences.append(one_by_one(words))
    row = Row(title, tuple(cells), facts=facts)
    return Comparison(title, word, lost, tuple(sentences), row, judgement)


def paired_set(results: Results, a: Arm, b: Arm, dataset: str) -> PairedSet | str:
    """The differences of the images that both have, the others to come; or why there is none."""
    for arm in (a, b):
        evaluation = results.evaluation(arm.model, dataset)
        title = results.model_title(arm.model)
        if evaluation.missing:
            return f"{title}: {evaluation.missing}"
        if arm.budget > evaluation.trials:
            return f"{title}: budget {arm.budget} asked, {evaluation.trials} evaluated"
    exhaustive = told_exhaustively(results, (a, b), dataset)
    first, second = (
        results.judged(arm.model, dataset, arm.budget, arm.aggregation, arm.model in exhaustive)
        for arm in (a, b)
    )
    if first is None or second is None:
        return "no predictions at this budget"
    # Aggregations are compared group by group: both by their first one.
    share = "share" if a.aggregation == b.aggregation else "correct"
    listed_ids = results.image_ids(dataset, (a.model, b.model), exhaustive)
    everyone = listed_ids or first.index.union(second.index, sort=False).tolist()
    both = set(first.index) & set(second.index)
    there = [image for image in everyone if image in both]
    if not there or there != everyone[: len(there)]:
        return "not the same images"
    differences = first.loc[there, share].astype(float) - second.loc[there, share].astype(float)
    return PairedSet(dataset, differences, tuple(everyone[len(there) :]))


def _cell(
    results: Results,
    arms: tuple[Arm, Arm],
    column: Column,
    one: PairedSet,
    judgement: Judgement,
    told: PaperValue | None,
    adjusted: bool,
) -> Cell:
    """One test set's difference."""
    origins = tuple(
        origin(results, results.evaluation(arm.model, column.key), arm.budget, arm.aggregation)
        for arm in arms
    )
    notes = _notes([one], judgement, adjusted)
    return Cell(
        estimate=judgement.difference,
        unit="points",
        images=judgement.contrast.images,
        to_come=len(one.to_come),
        paper=told,
        paired=judgement.contrast if judgement.complete else None,
        word=judgement.word,
        notes=notes,
        origins=origins,
    )


def _mean_cell(
    datasets: tuple[Column, ...],
    sets: list[PairedSet],
    judgement: Judgement,
    told: PaperValue | None,
    gaps: list[str],
) -> Cell:
    titles = {column.key: column.title for column in datasets}
    names = ", ".join(titles[one.name] for one in sets)
    return Cell(
        estimate=judgement.difference,
        unit="points",
        images=judgement.contrast.images,
        to_come=sum(len(one.to_come) for one in sets),
        paper=None if gaps else told,
        paired=judgement.contrast if judgement.complete else None,
        word="undecided" if gaps else judgement.word,
        notes=(("Mean of", names), *_notes(sets, judgement, False)),
    )


def _notes(
    sets: Sequence[PairedSet], judgement: Judgement, adjusted: bool
) -> tuple[tuple[str, str], ...]:
    notes = []
    if not judgement.complete:
        notes.append(("So far", progress(sets)))
        notes.append(("Evidence", f"{judgement.looks.evidence:.3g}, of {ENOUGH:.0f} that decide"))
    if adjusted:
        notes.append(("Adjusted for several test sets", f"p {show_p(judgement.p_value)}"))
    return tuple(notes)


def paper_difference(paper: Paper, a: Arm, b: Arm, dataset: str) -> PaperValue | None:
    first, second = paper.accuracy_of(a.paper, dataset), paper.accuracy_of(b.paper, dataset)
    if not first or not second:
        return None
    row = f"{first.row} minus {second.row}"
    return PaperValue(first.value - second.value, row, first.source)


def _paper_mean(
    paper: Paper, statement: Statement, values: Sequence[PaperValue | None]
) -> PaperValue | None:
    """The paper's difference in the mean over the claim's test sets."""
    source = f"{statement.source.table}; {paper.sources[statement.source.told]}"
    known = [value for value in values if value]
    if len(known) == len(values):
        mean = sum(value.value for value in known) / len(known)
        return PaperValue(mean, known[0].row, known[0].source)
    if statement.difference is not None:
        return PaperValue(statement.difference, "its difference", source)
    return None


# ---- costs


def _costs(results: Results, paper: Paper, statement: Statement) -> Claim:
    datasets = claimed_datasets(results, statement)
    source = f"{statement.source.table}; {paper.sources[statement.source.told]}"
    pairs = pairs_of(results, statement)
    raced = [pair for pair in pairs if not all(results.is_scored_whole(a.model) for a in pair)]
    whole = [pair for pair in pairs if pair not in raced]
    races = [
        row for a, b in raced if datasets for row in _factors(results, a, b, datasets).every_unit
    ]
    if not whole or not datasets:
        lacking = what_is_lacking(results, statement)
        return Claim(statement, source, datasets, lacking=lacking, of_races=tuple(races))
    compared: list[Comparison] = []
    every_factor: list[Row] = []
    for place, (a, b) in enumerate(whole):
        found = _factors(results, a, b, datasets)
        every_factor += found.every_unit
        sentences = list(found.sentences)
        if place == len(whole) - 1:
            told = paper.efficiency
            who = "secondary source" if "secondary" in paper.sources[told.source] else "paper"
            sentences.append(f"The paper: {told.text} cheaper in run time ({who}).")
        compared.append(
            Comparison(
                found.leading.title, found.word, found.behind_on, tuple(sentences), found.leading
            )
        )
    return Claim(
        statement, source, datasets, tuple(compared), "", tuple(every_factor), tuple(races)
    )


def _factors(results: Results, a: Arm, b: Arm, datasets: tuple[Column, ...]) -> FactorRows:
    title = f"{a.title} against {b.title}"
    return compare_costs(results, a.model, b.model, title, with_mean(datasets))


def efficiency_tables(claims: Sequence[Claim], results: Results) -> list[Table]:
    """How many times cheaper, in each unit: of models that are scored whole, and of races."""
    device = f" Seconds on {results.device}: {HOW_SECONDS_ARE_MEANT}." if results.device else ""
    caption = (
        "How many times less the first needs for the accuracy of the second's full protocol, half "
        "a point less granted to both. Protocol: against the second's full protocol; cheapest: "
        "against the least that the second itself needs for it. Below, the lower end of the 95 % "
        "interval; there is no upper one. '≥': the second is not as accurate at any budget as the "
        f"first with its smallest. 'never': the first is not as accurate at any budget.{device}"
    )
    tables = []
    for claim in claims:
        for name, title, rows in (
            (claim.name, "Efficiency at the same accuracy", claim.every_factor),
            (f"{claim.name}-races", "Efficiency of races at the same accuracy", claim.of_races),
        ):
            if rows:
                tables.append(
                    Table(name, title, caption, "Cheaper in", claim.columns, rows, "factor")
                )
    return tables
