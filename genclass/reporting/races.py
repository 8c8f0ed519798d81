"""Races beside exhaustive scoring of the same images: the same answers, and how much cheaper.

Every race with images that are scored exhaustively, too, has this control, in every run.
"""

from __future__ import annotations

from typing import Any

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.intervals import Estimate, wilson
from genclass.reporting.results import Evaluation, Results
from genclass.reporting.tables import NOT_OF_A_RACE, Cell, Column, Row, Table, origin

_UNITS = {"forward_passes": "forward passes", "flops": "FLOPs", "seconds": "seconds"}


def race_tables(results: Results) -> list[Table]:
    """Agreement and savings, a row a race; none where no race has a control."""
    controlled = [e for e in results.evaluations if e.control]
    if not controlled:
        return []
    models = {evaluation.model for evaluation in controlled}
    datasets = {evaluation.dataset for evaluation in controlled}
    races = [name for name in results.models if name in models]
    columns = tuple(
        Column(name, results.dataset_title(name)) for name in results.datasets if name in datasets
    )
    agreement, savings = [], []
    for race in races:
        title, group = results.model_title(race), results.model(race).group
        evaluations = [results.evaluation(race, column.key) for column in columns]
        same = tuple(_agreement(results, evaluation) for evaluation in evaluations)
        agreement.append(Row(title, same, group, {"race": race}))
        for unit, name in _UNITS.items():
            less = tuple(_saving(results, evaluation, unit) for evaluation in evaluations)
            savings.append(Row(name, less, title, {"race": race, "unit": unit}))
    return [
        Table(
            "race-agreement",
            "Races: the same answers",
            "Of the images that are scored exhaustively, those on which the race gives the same "
            "answer: a replay of it on the same scores.",
            "Race",
            columns,
            tuple(agreement),
        ),
        Table(
            "race-savings",
            "Races: how much cheaper",
            "Exhaustive scoring over the race, an image's mean: of the images that are scored "
            "exhaustively and of those that raced, the pilot included; seconds as both were "
            "measured, on one kind of device.",
            "Cheaper in",
            columns,
            tuple(savings),
            "factor",
        ),
    ]


def disagreement(results: Results) -> tuple[int, int]:
    """Over all races: images with another answer than exhaustive scoring's, and images in all."""
    controls = [e.control for e in results.evaluations if e.control]
    images = sum(control["images"] for control in controls)
    return images - sum(control["agreeing"] for control in controls), images


def _agreement(results: Results, evaluation: Evaluation) -> Cell:
    if evaluation.control is None:
        return Cell(missing=evaluation.missing or NOT_OF_A_RACE)
    images = evaluation.control["images"]
    return Cell(
        estimate=wilson(evaluation.control["agreeing"] / images, images),
        images=images,
        budget=evaluation.trials,
        notes=(("Passes of an image, raced", f"{evaluation.control['passes']:.4g}"),),
        origins=(origin(results, evaluation, evaluation.trials, MEAN_LOG_P),),
    )


def _saving(results: Results, evaluation: Evaluation, unit: str) -> Cell:
    metrics = evaluation.metrics
    if metrics is None or evaluation.control is None:
        return Cell(missing=evaluation.missing or NOT_OF_A_RACE, unit="factor")
    if metrics["race_costs"] is None:
        return Cell(missing="no image raced: all are scored exhaustively", unit="factor")
    whole, raced = (_cost(metrics[key], unit) for key in ("costs", "race_costs"))
    kinds = [{entry["device"] for entry in metrics[key]["devices"]} for key in _COSTS]
    if whole is None or raced is None or (unit == "seconds" and kinds[0] != kinds[1]):
        return Cell(missing="on different devices", unit="factor")
    trials = evaluation.trials
    return Cell(
        estimate=Estimate(whole / raced, whole / raced, whole / raced),
        unit="factor",
        counted=True,
        images=evaluation.images - evaluation.exhaustive,
        budget=trials,
        notes=(
            ("An image, raced", f"{raced * trials:.4g}"),
            ("An image, whole", f"{whole * trials:.4g}"),
        ),
        origins=(origin(results, evaluation, trials, MEAN_LOG_P),),
    )


_COSTS = ("costs", "race_costs")


def _cost(costs: dict[str, Any], unit: str) -> float | None:
    """Of one image and trial; seconds only where one kind of device was used."""
    if unit != "seconds":
        return float(costs[f"{unit}_per_image_trial"])
    devices = costs["devices"]
    return float(devices[0]["seconds_per_image_trial"]) if len(devices) == 1 else None
