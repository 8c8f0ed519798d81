"""Races beside exhaustive scoring of the same trials: the same answers, and how much cheaper."""

from __future__ import annotations

import pandas as pd

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.intervals import Estimate, wilson
from genclass.config import ExhaustiveStrategy, Model
from genclass.reporting.results import Evaluation, Results
from genclass.reporting.tables import Cell, Column, Origin, Row, Table, origin

_UNITS = {"forward_passes": "forward passes", "flops": "FLOPs", "seconds": "seconds"}


def race_tables(results: Results) -> list[Table]:
    """Agreement and savings, a row a race; none where nothing is both raced and scored whole."""
    pairs = race_pairs(results)
    cells = set(results.config.cells())
    columns = tuple(
        Column(dataset, results.dataset_title(dataset))
        for dataset in results.datasets
        if any({(race, dataset), (whole, dataset)} <= cells for race, whole in pairs)
    )
    if not columns:
        return []
    agreement, savings = [], []
    for race, whole in pairs:
        title = results.model_title(race)
        facts = {"race": race, "exhaustive": whole}
        same = tuple(_agreement(results, race, whole, column.key) for column in columns)
        agreement.append(Row(title, same, facts=facts))
        for unit, name in _UNITS.items():
            less = tuple(_saving(results, race, whole, column.key, unit) for column in columns)
            savings.append(Row(name, less, title, facts | {"unit": unit}))
    return [
        Table(
            "race-agreement",
            "Races: the same answers",
            "Images on which a race answers as exhaustive scoring of the same trials does.",
            "Race",
            columns,
            tuple(agreement),
        ),
        Table(
            "race-savings",
            "Races: how much cheaper",
            "Exhaustive scoring over the race, an image's mean, the race's pilot included; seconds "
            "as both were measured, on one kind of device.",
            "Cheaper in",
            columns,
            tuple(savings),
            "factor",
        ),
    ]


def race_pairs(results: Results) -> list[tuple[str, str]]:
    """(race, the same model scored exhaustively) of what is measured."""
    return [
        (race, whole)
        for race in results.models
        if results.model(race).races
        for whole in results.models
        if _is_the_same_but_whole(results.model(whole), results.model(race))
    ]


def disagreement(results: Results) -> tuple[int, int]:
    """Over all races: images with another answer than exhaustive scoring's, and images in all."""
    other = images = 0
    for race, whole in race_pairs(results):
        for dataset in results.datasets:
            answers = _answers(results, race, whole, dataset)
            if answers:
                other += int((answers[0] != answers[1]).sum())
                images += len(answers[0])
    return other, images


def _answers(
    results: Results, race: str, whole: str, dataset: str
) -> tuple[pd.Series, pd.Series] | None:
    """The class ids that both predict at the race's budget, by image id; None: of none."""
    budget = results.evaluation(race, dataset).trials
    frames = [results.predictions(model, dataset, ["predicted"], budget) for model in (race, whole)]
    if frames[0] is None or frames[1] is None:
        return None
    both = frames[0].index.intersection(frames[1].index)  # one of them may be ahead
    if both.empty:
        return None
    return frames[0].loc[both, "predicted"], frames[1].loc[both, "predicted"]


def _is_the_same_but_whole(whole: Model, race: Model) -> bool:
    machine = {"title": "", "group": "", "images_per_shard": None, "class_batch": 1}
    told = machine | {"strategy": ExhaustiveStrategy()}
    return not whole.races and whole.model_copy(update=machine) == race.model_copy(update=told)


def _agreement(results: Results, race: str, whole: str, dataset: str) -> Cell:
    raced, scored = (results.evaluation(model, dataset) for model in (race, whole))
    if reason := raced.missing or scored.missing:
        return Cell(missing=reason)
    answers = _answers(results, race, whole, dataset)
    if answers is None:
        return Cell(missing="no predictions at this budget")
    one, other = answers
    return Cell(
        estimate=wilson(float((one == other).mean()), len(one)),
        images=len(one),
        budget=raced.trials,
        origins=_origins(results, raced, scored),
    )


def _saving(results: Results, race: str, whole: str, dataset: str, unit: str) -> Cell:
    raced, scored = (results.evaluation(model, dataset) for model in (race, whole))
    if reason := raced.missing or scored.missing:
        return Cell(missing=reason, unit="factor")
    costs = [_cost(evaluation, unit) for evaluation in (raced, scored)]
    same = unit != "seconds" or raced.seconds.keys() == scored.seconds.keys()
    if costs[0] is None or costs[1] is None or not same:
        return Cell(missing="on different devices", unit="factor")
    factor = costs[1] / costs[0]
    return Cell(
        estimate=Estimate(factor, factor, factor),
        unit="factor",
        counted=True,
        images=raced.images,
        budget=raced.trials,
        notes=(("An image, raced", f"{costs[0]:.4g}"), ("An image, whole", f"{costs[1]:.4g}")),
        origins=_origins(results, raced, scored),
    )


def _cost(evaluation: Evaluation, unit: str) -> float | None:
    """Of one image under the whole budget; seconds only where one kind of device was used."""
    assert evaluation.metrics
    costs = evaluation.metrics["costs"]
    if unit != "seconds":
        return float(costs[f"{unit}_per_image_trial"]) * evaluation.trials
    if len(costs["devices"]) != 1:
        return None
    return float(costs["devices"][0]["seconds_per_image_trial"]) * evaluation.trials


def _origins(results: Results, raced: Evaluation, scored: Evaluation) -> tuple[Origin, ...]:
    return tuple(origin(results, e, raced.trials, MEAN_LOG_P) for e in (raced, scored))
