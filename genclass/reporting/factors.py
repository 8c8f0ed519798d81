"""How many times cheaper one model is than another's full protocol, in every unit of cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genclass.analysis.efficiency import Curve, Factor, Matched, match
from genclass.analysis.intervals import Estimate
from genclass.analysis.verdicts import Word
from genclass.reporting.results import Results
from genclass.reporting.tables import Cell, Column, Row, origin, show, trial_noun

COST_TITLES = {"forward_passes": "Forward passes", "flops": "FLOPs", "seconds": "Seconds"}
HOW_SECONDS_ARE_MEANT = "forward passes times a model's mean time of one, over all test sets"

_LEADING = "flops"  # the unit of the verdict: the same on every device
_NOUNS = {"flops": "fewer FLOPs", "seconds": "less time"}


@dataclass(frozen=True)
class Cost:
    """What one image costs, over all its candidate classes: once, and for every trial."""

    once: float
    trial: float

    def of(self, budget: int) -> float:
        return self.once + budget * self.trial


def cost_of(results: Results, model: str, dataset: str, unit: str) -> Cost | None:
    """The cost of an image in forward_passes, flops or seconds; None: not known on this device."""
    evaluation = results.evaluation(model, dataset)
    trial = results.cost(evaluation, unit)
    if not trial or not evaluation.metrics:
        return None
    once = evaluation.metrics["costs"].get(f"{unit}_per_image", 0.0)
    return Cost(float(once), trial)


@dataclass(frozen=True)
class FactorRows:
    """Two models' costs compared on a claim's test sets.

    leading: the protocol factors in FLOPs; word: of their mean curve; behind_on: titles of the test
    sets where the first is at no budget as accurate; every_unit: protocol and cheapest factors.
    """

    word: Word
    behind_on: tuple[str, ...]
    sentences: tuple[str, ...]
    leading: Row
    every_unit: tuple[Row, ...]


@dataclass(frozen=True)
class _Compared:
    """Two curves over some test sets, with what an image costs at every budget of each."""

    matched: Matched
    costs: dict[str, tuple[list[float], list[float]] | None]  # by unit: first, second
    images: int
    complete: bool

    def word(self, unit: str) -> Word:
        costs = self.costs[unit]
        if not self.complete or costs is None:
            return "undecided"
        if self.matched.behind:
            return "reversed"
        low = self.matched.protocol(*costs).low
        return "holds" if self.matched.ahead or low > 1 else "undecided"


def compare_costs(
    results: Results, first: str, second: str, title: str, columns: Sequence[Column]
) -> FactorRows:
    """How many times cheaper `first` is at the accuracy of `second` at its full protocol.

    Args:
        columns: the test sets and, of several, a last one with the key `mean`: the mean curve,
            which the verdict is of.
    """
    datasets = [column for column in columns if column.key != "mean"]
    compared: list[_Compared | str] = [
        _compare(results, first, second, [column]) for column in datasets
    ]
    singles = list(compared)
    if len(columns) > len(datasets):
        compared.append(_compare(results, first, second, datasets))
    facts = {"first": first, "second": second}
    rows = {
        (kind, unit): Row(
            f"{name}, {kind}",
            tuple(
                _cell(results, first, second, one, unit, kind, columns[place].key)
                for place, one in enumerate(compared)
            ),
            title,
            {**facts, "unit": unit, "against": kind},
        )
        for kind in ("protocol", "cheapest")
        for unit, name in COST_TITLES.items()
    }
    whole = compared[-1]
    leading = rows["protocol", _LEADING]
    behind = tuple(
        column.title
        for column, one in zip(datasets, singles, strict=True)
        if not isinstance(one, str) and one.word(_LEADING) == "reversed"
    )
    return FactorRows(
        "undecided" if isinstance(whole, str) else whole.word(_LEADING),
        behind if len(datasets) > 1 else (),
        _sentences(results, first, second, title, whole, singles),
        Row(title, leading.cells, facts=leading.facts),
        tuple(rows.values()),
    )


def _compare(results: Results, first: str, second: str, columns: list[Column]) -> _Compared | str:
    """Both curves over these test sets; or why there is none."""
    shares: dict[str, list[pd.DataFrame]] = {first: [], second: []}
    complete = True
    datasets = [column.key for column in columns]
    for dataset, column in zip(datasets, columns, strict=True):
        frames = []
        for model in (first, second):
            evaluation = results.evaluation(model, dataset)
            if evaluation.missing:
                where = f" on {column.title}" if len(datasets) > 1 else ""
                return f"{results.model_title(model)}{where}: {evaluation.missing}"
            found = results.shares(model, dataset)
            if found is None:
                return "no predictions"
            frames.append(pd.DataFrame(found[1], index=found[2], columns=found[0]))
        # One of them may be ahead, or race where the other is scored exhaustively.
        common = frames[0].index.intersection(frames[1].index)
        if common.empty:
            return "not the same images"
        frames = [frame.loc[common] for frame in frames]
        both = (first, second)
        complete &= len(common) >= len(results.image_ids(dataset, both, both))
        for model, frame in zip((first, second), frames, strict=True):
            shares[model].append(frame)
    for frames in shares.values():
        if any(not frame.columns.equals(frames[0].columns) for frame in frames):
            return "not the same budgets on all test sets"
    curves = [
        Curve(tuple(int(budget) for budget in frames[0].columns), tuple(frames))
        for frames in shares.values()
    ]
    costs: dict[str, tuple[list[float], list[float]] | None] = {}
    for unit in COST_TITLES:
        sides = [
            _mean_costs(results, model, datasets, unit, curve)
            for model, curve in zip((first, second), curves, strict=True)
        ]
        costs[unit] = (sides[0], sides[1]) if sides[0] and sides[1] else None
    images = sum(len(frame) for frame in shares[first])
    return _Compared(match(curves[0], curves[1]), costs, images, complete)


def _mean_costs(
    results: Results, model: str, datasets: list[str], unit: str, curve: Curve
) -> list[float] | None:
    """Of an image at each budget, in the mean over the test sets."""
    found = [cost_of(results, model, dataset, unit) for dataset in datasets]
    costs = [cost for cost in found if cost]
    if len(costs) < len(found):
        return None
    return [float(np.mean([cost.of(budget) for cost in costs])) for budget in curve.budgets]


def _cell(
    results: Results,
    first: str,
    second: str,
    compared: _Compared | str,
    unit: str,
    kind: str,
    dataset: str,
) -> Cell:
    if isinstance(compared, str):
        return Cell(missing=compared, unit="factor")
    costs = compared.costs[unit]
    if costs is None:
        reason = "not on the same device" if unit == "seconds" else "cost not recorded"
        return Cell(missing=reason, unit="factor")
    matched = compared.matched
    factor = matched.protocol(*costs) if kind == "protocol" else matched.cheapest(*costs)
    at_least = False
    if kind == "protocol" and matched.ahead:
        factor = Factor(matched.at_least(*costs), min(factor.low, matched.at_least(*costs)))
        at_least = factor.value >= 1
    origins = (
        ()
        if dataset == "mean"
        else tuple(
            origin(results, evaluation, evaluation.trials, "mean_log_p")
            for evaluation in (results.evaluation(model, dataset) for model in (first, second))
        )
    )
    return Cell(
        estimate=Estimate(factor.value, factor.low, factor.value),
        unit="factor",
        at_least=at_least,
        lower_end_only=True,
        images=compared.images,
        word=compared.word(unit) if kind == "protocol" else None,
        notes=_notes(results, first, second, matched),
        origins=origins,
    )


def _notes(
    results: Results, first: str, second: str, matched: Matched
) -> tuple[tuple[str, str], ...]:
    one, other = results.model(first), results.model(second)
    reached = matched.challenger_budget
    needs = trial_noun(one, reached) if reached else "at no budget as accurate"
    own = trial_noun(other, matched.reference_budget)
    return (
        ("Accuracy to reach", f"{show(matched.target, 'percent')} %"),
        (results.model_title(first), needs),
        (
            results.model_title(second),
            f"{trial_noun(other, matched.reference.budgets[-1])}; {own} at its cheapest",
        ),
    )


def _sentences(
    results: Results,
    first: str,
    second: str,
    title: str,
    whole: _Compared | str,
    singles: list[_Compared | str],
) -> tuple[str, ...]:
    if isinstance(whole, str):
        return (f"{title}: undecided, {whole}.",)
    one, other = results.model_title(first), results.model_title(second)
    matched = whole.matched
    protocol = trial_noun(results.model(second), matched.reference.budgets[-1])
    target = show(matched.target, "percent")
    where = f" in the mean over {len(singles)} test sets" if len(singles) > 1 else ""
    reached = matched.challenger_budget
    if reached is None:
        text = (
            f"{one} reaches the {target} % of {other} with its full protocol of {protocol} at no "
            f"budget{where}"
        )
        sentences = [f"{text}, half a point less granted."]
    else:
        needs = trial_noun(results.model(first), reached)
        sentences = [
            f"{one} needs {needs} for the {target} % of {other} with its full protocol of "
            f"{protocol}{where}, half a point less granted to both: {_times(whole, 'protocol')}."
        ]
        own = trial_noun(results.model(second), matched.reference_budget)
        cheapest = _times(whole, "cheapest")
        sentences.append(f"Against the {own} that {other} itself needs for it: {cheapest}.")
    least = trial_noun(results.model(first), matched.challenger.budgets[0])
    if matched.ahead:
        sentences.append(f"{other} reaches {one}’s accuracy with {least} at no budget.")
    if not whole.complete:
        sentences.append("Undecided until all images are there.")
    there = [single for single in singles if not isinstance(single, str)]
    if len(singles) > 1:
        above = sum(
            1
            for single in there
            if (costs := single.costs[_LEADING]) and single.matched.protocol(*costs).low > 1
        )
        ahead = sum(single.matched.ahead for single in there)
        sentences.append(
            f"One by one, the lower end is above 1 on {above} of {len(there)} test sets"
            + (
                f"; on {ahead}, {other} at no budget is as accurate as {one} with {least}."
                if ahead
                else "."
            )
        )
    return tuple(sentences)


def _times(compared: _Compared, kind: str) -> str:
    """'13 times fewer FLOPs (lower end of the 95 % interval 8.1 times), ...', a unit after the
    other."""
    parts = []
    for unit, noun in _NOUNS.items():
        costs = compared.costs[unit]
        if costs is None:
            continue
        matched = compared.matched
        factor = matched.protocol(*costs) if kind == "protocol" else matched.cheapest(*costs)
        value, low = (show(number, "factor").rstrip("×") for number in (factor.value, factor.low))
        low = "0" if factor.low == 0 else low
        parts.append(f"{value} times {noun} (lower end of the 95 % interval {low} times)")
    return " and ".join(parts) or "costs not recorded"
