"""What is not decided yet, for the budget of a run of hours: differences that are to be expected.

Before anything is known, they are the paper's; what the images say that are there outweighs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genclass.analysis.contrasts import LEVEL, is_right_or_wrong
from genclass.analysis.sequential import ENOUGH, PairedSet, look, rounds
from genclass.analysis.verdicts import judge
from genclass.planning.budget import Wish
from genclass.reporting.arms import Arm, claimed_datasets, pairs_of, races_tell, told_by_scores
from genclass.reporting.claims import paired_set, paper_difference
from genclass.reporting.paper import Paper
from genclass.reporting.results import Results
from genclass.reporting.sentences import title_of
from genclass.reporting.statements import Statement, Statements

ASSUMED_DIFFERENCE = 0.05  # where the paper gives none
ASSUMED_DISCORDANCE = 0.25  # the share of images that one of two classifiers alone has right
WEIGHT = 40  # images that what is assumed counts as
HEADLINE = (
    4.0  # verdicts that each of the first claim counts as; one on a single test set is a half
)
_LEAST = 0.002  # no smaller difference is expected: none would be decided by it


def wishes(
    results: Results, paper: Paper, statements: Statements | None = None
) -> tuple[list[Wish], list[Wish]]:
    """The comparisons of the paper's claims, each test set of several by itself besides.

    Those that are not decided, and those that are. A claim about costs has none, and one about two
    aggregations of a model that races neither: they need all scores of an image.
    """
    wanted: list[Wish] = []
    decided: list[Wish] = []
    if results.main_table is None:
        return wanted, decided
    claims = (statements or Statements.load(paper)).claims
    for statement in claims:
        weight = HEADLINE if statement is claims[0] else 1.0
        if statement.measure == "cost":
            continue
        datasets = [column.key for column in claimed_datasets(results, statement)]
        cells = results.config.cells()
        pairs = pairs_of(results, statement)
        for a, b in told_by_scores(results, pairs, claimed_datasets(results, statement)):
            races = a.model == b.model and results.model(a.model).races
            if races and not all(races_tell(results, arm) for arm in (a, b)):
                continue
            if all((arm.model, dataset) in cells for arm in (a, b) for dataset in datasets):
                for wish, is_open in _of_pair(results, paper, statement, (a, b), datasets, weight):
                    (wanted if is_open else decided).append(wish)
    return wanted, decided


def _of_pair(
    results: Results,
    paper: Paper,
    statement: Statement,
    arms: tuple[Arm, Arm],
    datasets: Sequence[str],
    weight: float,
) -> list[tuple[Wish, bool]]:
    a, b = arms
    found = [paired_set(results, a, b, dataset) for dataset in datasets]
    sets = [one for one in found if isinstance(one, PairedSet)]
    told = [paper_difference(paper, a, b, dataset) for dataset in datasets]
    default = ASSUMED_DIFFERENCE if statement.difference is None else statement.difference
    assumed = [default if value is None else value.value for value in told]
    parts = []
    for one, difference in zip(found, assumed, strict=True):
        values = one.differences.to_numpy(float) if isinstance(one, PairedSet) else np.empty(0)
        parts.append(_expected(values, difference, ASSUMED_DISCORDANCE - difference**2))
    variances = tuple(variance for _, variance in parts)
    several = len(datasets) > 1
    whole = Wish(
        claim=statement.name,
        title=title_of(results, a, b),
        models=(a.model, b.model),
        datasets=tuple(datasets),
        difference=0.0,
        variances=variances,
        enough=ENOUGH,
        by_signs=not several and not statement.margin,
        weight=weight,
    )
    if len(sets) == len(datasets):
        values = rounds(sets)
        variance = sum(variances) / len(datasets) ** 2
        mean, variance = _expected(values, float(np.mean(assumed)), variance)
        is_open = _undecided(sets, statement.margin, 1)
    else:
        mean, variance = float(np.mean(assumed)), None
        is_open = True
    whole = replace(whole, difference=_distance(mean, statement), rounds_variance=variance)
    if not several:
        return [(whole, is_open)]
    entries = [(whole, is_open)]
    for dataset, one, (mean, variance) in zip(datasets, found, parts, strict=True):
        signs = not statement.margin and (
            not isinstance(one, PairedSet) or is_right_or_wrong(one.differences)
        )
        single = replace(
            whole,
            datasets=(dataset,),
            difference=_distance(mean, statement),
            variances=(variance,),
            rounds_variance=None,
            enough=ENOUGH * len(datasets),
            by_signs=signs,
            weight=whole.weight / 2,
        )
        undecided = isinstance(one, str) or _undecided([one], statement.margin, len(datasets))
        entries.append((single, undecided))
    return entries


def _undecided(sets: Sequence[PairedSet], margin: float, several: int) -> bool:
    """Is one of so many comparisons? Of complete ones, Bonferroni stands for Holm: a little more
    is asked for."""
    if all(one.complete for one in sets):
        found = judge(sets, margin)
        return found.word == "undecided" or several * found.p_value > LEVEL
    return look(sets, margin).evidence < ENOUGH * several


def _expected(values: np.ndarray, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of a difference, what is assumed counting as `WEIGHT` images."""
    total = WEIGHT + len(values)
    expected = (WEIGHT * mean + float(values.sum())) / total
    spread = WEIGHT * variance + float(((values - expected) ** 2).sum())
    return expected, max(spread / total, 1e-4)


def _distance(mean: float, statement: Statement) -> float:
    """From the null hypothesis, on whichever side."""
    return max(abs(mean + statement.margin), _LEAST)
