"""Which of the paper's claims hold in this run: comparisons on the same images, and verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from genclass.analysis.efficiency import MatchedAccuracy, matched_accuracy, scaled
from genclass.analysis.intervals import CONFIDENCE, paired_difference
from genclass.config import Row as RowConfig
from genclass.reporting.paper import Paper, PaperValue
from genclass.reporting.results import Results
from genclass.reporting.tables import (
    AGGREGATION_TITLES,
    Cell,
    Column,
    Row,
    Table,
    mean_cell,
    origin,
    show,
    trial_noun,
)
from genclass.section import Aggregation

Outcome = Literal["holds", "reversed", "undecided"]
Kind = Literal["holds", "partly", "reversed", "undecided", "untested"]

EFFICIENCY = "efficiency"  # the one claim without a paired difference
COST_TITLES = {"forward_passes": "Forward passes", "flops": "FLOPs", "seconds": "Seconds"}
HOW_SECONDS_ARE_MEANT = "forward passes times a model's mean time of one, over all test sets"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison."""

    model: str
    budget: int
    aggregation: Aggregation
    title: str
    paper: str | None  # its row of reports/paper.yaml


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with the rows that test it; one row a comparison, one cell a dataset."""

    name: str
    statement: str
    rows: tuple[Row, ...] = ()
    datasets: tuple[Column, ...] = ()
    untested: str = ""  # why there is no row
    sentences: tuple[str, ...] = ()
    every_unit: tuple[Row, ...] = ()  # of the efficiency: the factors in each unit of cost

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of `rows`: the datasets, and their mean but for the efficiency."""
        mean = () if self.name == EFFICIENCY else (Column("mean", "Mean"),)
        return (*self.datasets, *mean)

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Over all comparisons and datasets that could be tested."""
        cells = (cell for row in self.rows for cell in row.cells[: len(self.datasets)])
        return Counter(outcome for outcome in map(outcome_of, cells) if outcome)

    @property
    def means(self) -> list[Outcome]:
        """Of every comparison's mean over the datasets."""
        cells = (cell for row in self.rows for cell in row.cells[len(self.datasets) :])
        return [outcome for outcome in map(outcome_of, cells) if outcome]

    @property
    def kind(self) -> Kind:
        """holds: on every dataset, or in every mean over them and reversed on none.

        partly: where it holds at least as often as it is reversed.
        """
        count, means = self.outcomes, self.means
        total = sum(count.values())
        if not total:
            return "untested"
        all_means_hold = bool(means) and set(means) == {"holds"}
        if count["holds"] == total or (all_means_hold and not count["reversed"]):
            return "holds"
        if count["reversed"] > count["holds"]:
            return "reversed"
        return "partly" if count["holds"] else "undecided"

    @property
    def verdict(self) -> str:
        """In a few words, e.g. 'holds in 7 of 8 comparisons, undecided in 1'."""
        count = self.outcomes
        total = sum(count.values())
        if not total:
            return "not tested here"
        order: tuple[Outcome, ...] = ("holds", "reversed", "undecided")
        found = [outcome for outcome in order if count[outcome]]
        if len(found) == 1:
            text = f"{found[0]} in " + (
                f"all {total} comparisons" if total > 1 else "the one tested"
            )
        else:
            text = f"{found[0]} in {count[found[0]]} of {total} comparisons"
            text += "".join(f", {outcome} in {count[outcome]}" for outcome in found[1:])
        if self.kind == "holds" and count["holds"] < total:
            return f"holds in the mean; one by one: {text}"
        return text


def outcome_of(cell: Cell) -> Outcome | None:
    """Does the claim hold here? Where the 95 % interval and the paired test agree."""
    if not cell.estimate:
        return None
    neutral = 1.0 if cell.unit == "factor" else 0.0
    if cell.paired and cell.paired.p_value >= 1 - CONFIDENCE:
        return "undecided"
    if cell.estimate.low > neutral:
        return "holds"
    return "reversed" if cell.estimate.high < neutral and not cell.at_least else "undecided"


def build_claims(results: Results, paper: Paper) -> list[Claim]:
    """The paper's claims, tested with the rows of the main table (`main`, or the first one).

    Networks of one size (L, XL) are compared; where that leaves nothing to compare, all of them.
    """
    table = results.main_table
    if table is None:
        return []
    datasets = tuple(Column(d, results.dataset_title(d)) for d in table.columns)
    arms: dict[str, list[Arm]] = {"random": [], "raster": [], "diffusion": []}
    for row in table.rows:
        role = _role(results, row)
        if role:
            arms[role].append(_arm(results, row))
    everyone = {role: _largest(found) for role, found in arms.items()}
    # What a network is worth is told by all its scores: its races tell only what it costs.
    known = {role: _not_raced_twice(results, found) for role, found in everyone.items()}
    marginalised = known["random"]
    # Of a race there is one budget and one aggregation.
    whole = [arm for arm in marginalised if not results.model(arm.model).races]

    def pairs(role: str, known: dict[str, list[Arm]] = known) -> list[tuple[Arm, Arm]]:
        everything = [(a, b) for a in known["random"] for b in known[role]]
        alike = [(a, b) for a, b in everything if size(a) == size(b)]
        return alike or everything

    def size(arm: Arm) -> str:
        return results.model(arm.model).network.size_name

    def claim(key: str, statement: str, tested: list[tuple[Arm, Arm]], without: str) -> Claim:
        rows = tuple(_comparison(results, paper, a, b, datasets) for a, b in tested)
        untested = "" if tested else f"the main table has no {without}"
        sentences = tuple(_sentence(row, datasets) for row in rows)
        return Claim(key, statement, rows, datasets, untested, sentences)

    many = "model scored over more than one random order"
    return [
        claim(
            "order-marginalised-beats-raster",
            "Averaging over random orders beats the one raster order",
            pairs("raster"),
            many if not marginalised else "model in raster order beside it",
        ),
        claim(
            "more-orders-are-better",
            "Many orders beat one",
            [(arm, replace(arm, budget=1, paper=None)) for arm in whole],
            many,
        ),
        claim(
            "mean-log-p-beats-logsumexp",
            "The mean of log p beats logsumexp over the orders",
            [(a, replace(a, aggregation="logsumexp", paper=None)) for a in whole],
            many,
        ),
        claim(
            "any-order-beats-diffusion",
            "Any-order autoregression beats diffusion",
            pairs("diffusion"),
            many if not marginalised else "diffusion or flow model beside it",
        ),
        _efficiency(results, paper, pairs("diffusion", everyone), datasets),
    ]


def claims_table(claims: list[Claim]) -> Table | None:
    """Every paired comparison; None where there is none."""
    tested = [claim for claim in claims if claim.rows and claim.name != EFFICIENCY]
    if not tested:
        return None
    return Table(
        "claims",
        "Paired comparisons",
        "Accuracy of the first minus accuracy of the second on the same images, with Tango's "
        "interval for paired proportions. Open a cell for the exact McNemar test.",
        "Comparison",
        tested[0].columns,
        tuple(row for claim in tested for row in claim.rows),
        "points",
    )


def efficiency_table(claims: list[Claim], results: Results) -> Table | None:
    """How many times cheaper at matched accuracy, once in each unit; None where untested."""
    claim = next((c for c in claims if c.name == EFFICIENCY and c.rows), None)
    if claim is None:
        return None
    device = f" Seconds on {results.device}: {HOW_SECONDS_ARE_MEANT}." if results.device else ""
    return Table(
        "efficiency",
        "Efficiency at matched accuracy",
        "How many times less the first needs to be as accurate as the second at its best, read "
        "off the curves; bootstrap intervals over the images. '≥': it is already more accurate at "
        f"its smallest budget. 'never': it is not as accurate at any.{device}",
        "Cheaper in",
        claim.datasets,
        claim.every_unit,
        "factor",
    )


def _role(results: Results, row: RowConfig) -> str | None:
    """random, raster or diffusion; None for what takes part in no claim."""
    model = results.model(row.model)
    if row.aggregation != "mean_log_p":
        return None
    role = model.system.role
    if role == "any-order":
        return "random" if (row.trials or model.trials) > 1 else None
    return {"raster": "raster", "diffusion": "diffusion", "flow": "diffusion"}.get(role)


def _arm(results: Results, row: RowConfig) -> Arm:
    model = results.model(row.model)
    title, budget = results.model_title(row.model), row.trials or model.trials
    if budget != model.trials:
        title += f", {trial_noun(model, budget)}"
    return Arm(row.model, budget, "mean_log_p", title, row.paper)


def _largest(arms: Sequence[Arm]) -> list[Arm]:
    """Of every model the row with the largest budget."""
    chosen: dict[str, Arm] = {}
    for arm in arms:
        if arm.model not in chosen or arm.budget > chosen[arm.model].budget:
            chosen[arm.model] = arm
    return list(chosen.values())


def _not_raced_twice(results: Results, arms: list[Arm]) -> list[Arm]:
    """Without the races of networks that are scored exhaustively beside them."""

    def network(arm: Arm) -> tuple[str, str]:
        model = results.model(arm.model)
        return model.network.checkpoint, model.classifier.model_dump_json()

    whole = {network(arm) for arm in arms if not results.model(arm.model).races}
    return [a for a in arms if not results.model(a.model).races or network(a) not in whole]


def _comparison(
    results: Results, paper: Paper, a: Arm, b: Arm, datasets: tuple[Column, ...]
) -> Row:
    model = results.model(a.model)
    if a.model != b.model:
        title = f"{a.title} − {b.title}"
    elif a.aggregation != b.aggregation:
        first, second = AGGREGATION_TITLES[a.aggregation], AGGREGATION_TITLES[b.aggregation]
        title = f"{results.model_title(a.model)}: {first} − {second}"
    else:
        budgets = f"{trial_noun(model, a.budget)} − {trial_noun(model, b.budget)}"
        title = f"{results.model_title(a.model)}: {budgets}"
    tested = [_paired_cell(results, paper, a, b, column.key) for column in datasets]
    present = [(*pair, c) for pair, c in zip(tested, datasets, strict=True) if pair[0].estimate]
    if present:
        mean = mean_cell(*zip(*present, strict=True))
    else:
        mean = Cell(missing="no test set to take it over", unit="points")
    facts = {
        "first": {"model": a.model, "budget": a.budget, "aggregation": a.aggregation},
        "second": {"model": b.model, "budget": b.budget, "aggregation": b.aggregation},
    }
    return Row(title, (*(cell for cell, _ in tested), mean), facts=facts)


def _paired_cell(
    results: Results, paper: Paper, a: Arm, b: Arm, dataset: str
) -> tuple[Cell, pd.Series | None]:
    """The comparison on one dataset, and the difference image by image."""

    def missing(reason: str) -> tuple[Cell, None]:
        return Cell(missing=reason, unit="points"), None

    for arm in (a, b):
        evaluation = results.evaluation(arm.model, dataset)
        title = results.model_title(arm.model)
        if evaluation.missing:
            return missing(f"{title}: {evaluation.missing}")
        if arm.budget > evaluation.trials:
            return missing(f"{title}: budget {arm.budget} asked, {evaluation.trials} evaluated")
    first = results.judged(a.model, dataset, a.budget, a.aggregation)
    second = results.judged(b.model, dataset, b.budget, b.aggregation)
    if first is None or second is None:
        return missing("no predictions at this budget")
    if not first.index.equals(second.index):
        return missing("not the same images")
    # Aggregations are compared group by group: both by their first one.
    share = "share" if a.aggregation == b.aggregation else "correct"
    shares = first[share].astype(float), second[share].astype(float)
    paired = paired_difference(
        *(series.to_numpy() for series in shares),
        *(frame["correct"].to_numpy(bool) for frame in (first, second)),
    )
    cell = Cell(
        estimate=paired.difference,
        unit="points",
        images=paired.images,
        paper=_paper_difference(paper, a, b, dataset),
        paired=paired,
        origins=tuple(
            origin(results, results.evaluation(arm.model, dataset), arm.budget, arm.aggregation)
            for arm in (a, b)
        ),
    )
    return cell, shares[0] - shares[1]


def _paper_difference(paper: Paper, a: Arm, b: Arm, dataset: str) -> PaperValue | None:
    first, second = paper.accuracy_of(a.paper, dataset), paper.accuracy_of(b.paper, dataset)
    if not first or not second:
        return None
    row = f"{first.row} minus {second.row}"
    return PaperValue(first.value - second.value, row, first.source)


def _sentence(row: Row, datasets: tuple[Column, ...]) -> str:
    """What the mean over the datasets says."""
    *cells, mean = row.cells
    if not mean.estimate:
        return f"{row.title}: {cells[0].missing}."
    tested = sum(1 for cell in cells if cell.estimate)
    where = "on the one test set" if tested == 1 else f"in the mean over {tested} test sets"
    if tested < len(datasets):
        where += f" of {len(datasets)}"
    p_value = dict(mean.notes)["Paired z-test p"]
    return (
        f"{row.title}: {mean.display} points {where} "
        f"(95 % interval {mean.interval_display}; paired z-test p {p_value})."
    )


def _efficiency(
    results: Results, paper: Paper, tested: list[tuple[Arm, Arm]], datasets: tuple[Column, ...]
) -> Claim:
    rows, every_unit = [], []
    for a, b in tested:
        title = f"{a.title} against {b.title}"
        by_dataset = [_factor_cells(results, a, b, column.key) for column in datasets]
        in_units = [
            Row(name, cells, title, {"first": a.model, "second": b.model, "unit": unit})
            for (unit, name), cells in zip(
                COST_TITLES.items(), zip(*by_dataset, strict=True), strict=True
            )
        ]
        every_unit += in_units
        # Verdict and sentence follow the paper's unit, run time, where it could be measured alike.
        leading = in_units[2 if any(cell.estimate for cell in in_units[2].cells) else 1]
        rows.append(replace(leading, title=title))
    sentences = [_efficiency_sentence(row) for row in rows]
    if rows:
        reported = paper.efficiency
        source = "secondary source" if "secondary" in paper.sources[reported.source] else "paper"
        sentences.append(f"The paper: {reported.text} ({source}).")
    return Claim(
        EFFICIENCY,
        "It is cheaper than diffusion at the same accuracy",
        tuple(rows),
        datasets,
        "" if rows else "the main table has no diffusion or flow model beside an any-order one",
        tuple(sentences),
        tuple(every_unit),
    )


def _factor_cells(results: Results, a: Arm, b: Arm, dataset: str) -> tuple[Cell, ...]:
    """One factor in each unit, or the reason why there is none."""

    def missing(reason: str) -> tuple[Cell, ...]:
        return tuple(Cell(missing=reason, unit="factor") for _ in COST_TITLES)

    for arm in (a, b):
        evaluation = results.evaluation(arm.model, dataset)
        if evaluation.missing:
            return missing(f"{results.model_title(arm.model)}: {evaluation.missing}")
    first, second = results.shares(a.model, dataset), results.shares(b.model, dataset)
    if first is None or second is None:
        return missing("no predictions")
    if first[2] != second[2]:
        return missing("not the same images")
    matched = matched_accuracy(first[1], first[0], second[1], second[0])
    evaluations = [results.evaluation(arm.model, dataset) for arm in (a, b)]
    cells = []
    for unit in COST_TITLES:
        costs = [results.cost(evaluation, unit) for evaluation in evaluations]
        if not costs[0] or not costs[1]:
            reason = "not on the same device" if unit == "seconds" else "cost not recorded"
            cells.append(Cell(missing=reason, unit="factor"))
            continue
        cells.append(
            Cell(
                estimate=scaled(matched.factor, costs[1] / costs[0]),
                unit="factor",
                at_least=matched.candidate_budget == first[0][0],
                images=evaluations[0].images,
                notes=_matched_notes(results, a, b, matched),
                origins=tuple(
                    origin(results, evaluation, evaluation.trials, "mean_log_p")
                    for evaluation in evaluations
                ),
            )
        )
    return tuple(cells)


def _matched_notes(
    results: Results, a: Arm, b: Arm, matched: MatchedAccuracy
) -> tuple[tuple[str, str], ...]:
    first, second = results.model(a.model), results.model(b.model)
    reached = matched.candidate_budget
    needs = trial_noun(first, reached) if reached else "at no budget as accurate"
    return (
        ("Accuracy matched", f"{show(matched.accuracy, 'percent')} %"),
        (results.model_title(a.model), needs),
        (results.model_title(b.model), trial_noun(second, matched.reference_budget)),
    )


def _efficiency_sentence(row: Row) -> str:
    found = [(cell.estimate.value, cell) for cell in row.cells if cell.estimate]
    if not found:
        return f"{row.title}: {row.cells[0].missing}."
    reached = sorted((pair for pair in found if pair[0] > 0), key=lambda pair: pair[0])
    unit = "measured seconds" if row.facts["unit"] == "seconds" else COST_TITLES[row.facts["unit"]]
    if not reached:
        return f"{row.title}: never as accurate, on any of {len(found)} test sets."
    ends = [reached[0]] if len(reached) == 1 else [reached[0], reached[-1]]
    factors = [f"{cell.display} (95 % interval {cell.interval_display})" for _, cell in ends]
    text = factors[0] if len(factors) == 1 else f"from {factors[0]} to {factors[1]}"
    never = len(found) - len(reached)
    tail = f"; never as accurate on {never} of {len(found)}" if never else ""
    return f"{row.title}: {text} in {unit} at matched accuracy{tail}."
