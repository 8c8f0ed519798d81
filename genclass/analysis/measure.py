"""What one model does on one dataset: its metrics and its predictions, from the merged scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genclass.analysis.accuracy import AGGREGATIONS, MEAN_LOG_P, in_blocks, judge
from genclass.config import Strategy
from genclass.errors import GenclassError
from genclass.families import Work
from genclass.racing.noise import Noise
from genclass.racing.replay import replay, replay_pilot
from genclass.racing.schedule import Schedule, build_schedule, ranking
from genclass.scores.merge import CellScores, MergeRecord
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec

_EVERY_BUDGET_UP_TO = 40
_SPREAD = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 160, 200, 250),
    *(320, 400, 500, 640, 800, 1000),
)
_CONFUSIONS = 20
_BINS = 15

Accuracy = dict[str, list[dict[str, Any]]]  # of each aggregation, an entry a budget


def aggregations_of(likelihood: bool) -> tuple[str, ...]:
    """The aggregations that mean something, whether scores are log-likelihoods or not.

    Minus a squared error is no log-likelihood of a trial: its exponential has no meaning.
    """
    return AGGREGATIONS if likelihood else (MEAN_LOG_P,)


def kept_budgets(trials: int) -> list[int]:
    """The budgets that predictions are kept for: all up to 40 trials, else ten a decade.

    Accuracies are kept for every budget; only what is said image by image is thinned.
    """
    if trials <= _EVERY_BUDGET_UP_TO:
        return list(range(1, trials + 1))
    return [budget for budget in _SPREAD if budget < trials] + [trials]


def race_budgets(strategy: Strategy, exchangeable: bool, trials: int) -> list[int]:
    """The budgets at which a race has an answer of every image, increasing: the whole one, and
    those of the first trials, in which every class is scored.

    exchangeable: are trials all drawn alike? Of timesteps the first is not as good as any.
    """
    whole = strategy.whole_trials(trials) if exchangeable else 0
    return [budget for budget in kept_budgets(trials) if budget <= whole or budget == trials]


@dataclass(frozen=True)
class ReplayedRace:
    """Of images that are scored exhaustively, what a race of them answers: counts.

    agreeing: images with the same answer; passes: forward passes of the race, over all of them.
    """

    images: int
    agreeing: int
    passes: int


@dataclass(frozen=True)
class MeasuredImages:
    """Some images of a cell.

    accuracy: of those that are scored exhaustively, for each aggregation an entry a budget; empty:
    none are. control: None: none race, or by which noise they do is not known. predictions: see
    `measure`.
    """

    accuracy: Accuracy
    control: ReplayedRace | None
    predictions: pd.DataFrame


def measure(
    merged: CellScores, spec: Spec, record: MergeRecord
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Accuracies per budget and aggregation, where the mistakes are, calibration, costs.

    Args:
        merged: the scores of every image, trial and candidate class.
        spec: the cell's.
        record: what `merge` returned: the shards with their headers.

    Returns:
        The metrics, plain values for JSON: spec, role, likelihood, trial, racing, images,
        exhaustive, trials, classes; accuracy, for each aggregation a list over budgets of {budget,
        images, mean, deviation, groups}, of the images that are scored exhaustively, if there are
        any; race_accuracy, a list of the same, of a race's answers on all images, over the budgets
        of `race_budgets`; per_class and confusions at the whole budget, of the race if there is
        one; calibration; costs for one image, and for each trial over all classes. On the images
        that are scored exhaustively a race's answers are those of a replay, and held against the
        exhaustive ones: `control`; race_costs: of the images that raced, its pilot included.
        The predictions, one row for each image and kept budget: image_id, label, budget;
        predicted, runner_up: class ids, by the mean of the first `budget` trials; correct;
        posterior: of the predicted class, under the uniform prior; share: of the disjoint groups
        of `budget` trials, how many classify the image right (its mean over images is the
        accuracy in the tables); predicted_mean_softmax, predicted_logsumexp: class ids, for
        any-order classifiers; raced: the answer is a race's. Of these, share is that of the first
        group alone, and at the budget raced for the posterior is NaN, and the runner-up the last to
        drop out.

    Raises:
        GenclassError: there are no images, or the record is that of other scores.
    """
    if record.spec != merged.spec:
        raise GenclassError(
            f"the scores are of spec {merged.spec[:12]}, their record of {record.spec[:12]}: "
            f"delete both and rerun"
        )
    if not len(merged.scores):
        raise GenclassError("no images to measure: the merged scores are empty")
    noise = Noise.of(record.noise) if record.noise else None
    if noise is None and merged.racing and merged.exhaustive == len(merged.scores):
        # No image races, so no pilot ran: its noise is what one would have found.
        noise = replay_pilot(merged.scores, spec.system.trial.exchangeable)
    return pooled([judged(merged, spec, noise)], spec, record)


def judged(scores: CellScores, spec: Spec, noise: Noise | None) -> MeasuredImages:
    """Of some images of a cell, what `measure` says of their accuracies, and the predictions.

    noise: by which they race, if a pilot measured it. None: of those that are scored exhaustively,
    the answers of a race are taken to be the exhaustive ones, without a control, unless the spec
    tells the noise.
    """
    accuracy: Accuracy = {}
    tables, control = [], None
    if scores.exhaustive:
        accuracy, whole = _exhaustive(scores, spec.system.likelihood)
        tables.append(whole.assign(raced=False))
    if scores.racing:
        exchangeable = spec.system.trial.exchangeable
        budgets = race_budgets(spec.schedule, exchangeable, scores.scores.shape[1])
        raced, control = _raced(scores, _schedule(spec, noise), budgets)
        tables.append(raced.assign(raced=True))
    predictions = _together(tables)
    predictions["correct"] = predictions["predicted"] == predictions["label"]
    return MeasuredImages(accuracy, control, predictions)


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One below the other. Races answer by the mean alone: nothing stands in the other columns."""
    result = pd.concat(tables, ignore_index=True)
    others = [name for name in result.columns if name.startswith("predicted_")]
    return result.astype(dict.fromkeys(others, "Int64"))


def pooled(
    parts: Sequence[MeasuredImages], spec: Spec, record: MergeRecord
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `measure` says of all the images of some parts of a cell, from what `judged` said.

    parts: in the order of their images. record: of the shards that they are from.
    """
    predictions = _together([part.predictions for part in parts])
    accuracy: Accuracy = {}
    whole = [part.accuracy for part in parts if part.accuracy]
    for aggregation, entries in whole[0].items() if whole else ():
        accuracy[aggregation] = []
        for place, entry in enumerate(entries):
            correct, images = np.zeros(len(entry["groups"]), dtype=np.int64), 0
            for found in whole:
                one = found[aggregation][place]
                correct += np.rint(np.array(one["groups"]) * one["images"]).astype(np.int64)
                images += one["images"]
            accuracy[aggregation].append(_budget_entry(entry["budget"], correct, images))
    controls = [part.control for part in parts if part.control]
    return _metrics(accuracy, controls, predictions, spec, record), predictions


def _metrics(
    accuracy: Accuracy,
    controls: Sequence[ReplayedRace],
    predictions: pd.DataFrame,
    spec: Spec,
    record: MergeRecord,
) -> dict[str, Any]:
    system = spec.system
    final = predictions[predictions["budget"] == record.trials]
    answers = final[final["raced"] == record.racing]
    sure = final[~final["raced"]]
    hits = predictions[predictions["raced"]].groupby("budget")["correct"].agg(["sum", "size"])
    control = None
    if images := sum(one.images for one in controls):
        control = {
            "images": images,
            "agreeing": sum(one.agreeing for one in controls),
            "passes": sum(one.passes for one in controls) / images,
        }
    costs = {race: _costs(record, system.work, race) for race in (False, True)}
    return {
        "spec": record.spec,
        "role": system.role,
        "likelihood": system.likelihood,
        "trial": {"noun": system.trial.noun, "exchangeable": system.trial.exchangeable},
        "racing": record.racing,
        "images": record.images,
        "exhaustive": record.exhaustive,
        "trials": record.trials,
        "classes": record.classes,
        "accuracy": accuracy,
        "race_accuracy": [
            _budget_entry(int(budget), np.array([number]), int(size))
            for budget, number, size in hits.itertuples()
        ],
        "per_class": _per_class(answers),
        "confusions": _confusions(answers),
        "calibration": _calibration(sure, system.likelihood) if len(sure) else None,
        "costs": costs[False] or costs[True],
        "control": control,
        "race_costs": costs[True],
    }


def _exhaustive(merged: CellScores, likelihood: bool) -> tuple[Accuracy, pd.DataFrame]:
    """Accuracy and predictions at every budget, of the images that are scored exhaustively."""
    scores = merged.scores[: merged.exhaustive]
    class_ids, labels = merged.class_ids, merged.labels[: merged.exhaustive]
    images, trials, _ = scores.shape
    aggregations = aggregations_of(likelihood)
    budgets, kept = range(1, trials + 1), set(kept_budgets(trials))
    correct = {
        (budget, aggregation): np.zeros(trials // budget, dtype=np.int64)
        for budget in budgets
        for aggregation in aggregations
    }
    tables: dict[tuple[int, int], dict[str, Any]] = {}  # by first image and budget
    for judged in judge(scores, class_ids, labels, aggregations):
        block, budget = judged.images, judged.budget
        correct[budget, judged.aggregation] += judged.right.sum(axis=0)
        if budget not in kept:
            continue
        first = judged.aggregated[:, 0]
        if judged.aggregation == MEAN_LOG_P:
            tables[block.start, budget] = {
                "image_id": merged.image_ids[block],
                "label": labels[block],
                "budget": budget,
                **_classify(first, class_ids),
                "share": judged.right.mean(axis=1),
            }
        else:
            predicted = class_ids[first.argmax(axis=1)]
            tables[block.start, budget][f"predicted_{judged.aggregation}"] = predicted
    accuracy = {
        aggregation: [_budget_entry(b, correct[b, aggregation], images) for b in budgets]
        for aggregation in aggregations
    }
    return accuracy, pd.concat(map(pd.DataFrame, tables.values()), ignore_index=True)


def _raced(
    scores: CellScores, schedule: Schedule | None, budgets: Sequence[int]
) -> tuple[pd.DataFrame, ReplayedRace | None]:
    """Predictions at these budgets (see `race_budgets`), and the control.

    The race's answers on the images that are scored exhaustively are those of a replay; schedule:
    of it, None: the exhaustive answers stand for them.
    """
    trials, known = scores.scores.shape[1], scores.exhaustive
    places = []
    passes = agreeing = 0
    for _, groups in in_blocks(scores.scores[:known]):
        found = groups.scores
        if schedule:
            played = replay(found, schedule)
            found = played.scores
            passes += int(played.passes.sum())
            agreeing += int((played.predictions == played.exhaustive).sum())
        places.append(ranking(found)[:, :2])
    places += [ranking(groups.scores)[:, :2] for _, groups in in_blocks(scores.scores[known:])]
    ranked = scores.class_ids[np.concatenate(places)]
    answers: dict[int, dict[str, Any]] = {
        trials: {"predicted": ranked[:, 0], "runner_up": ranked[:, -1], "posterior": np.nan}
    }
    for budget in budgets[:-1]:
        blocks = [
            _classify(groups.aggregate(budget, MEAN_LOG_P)[:, 0], scores.class_ids)
            for _, groups in in_blocks(scores.scores[:, :budget])
        ]
        answers[budget] = {
            column: np.concatenate([block[column] for block in blocks]) for column in blocks[0]
        }
    tables = [
        pd.DataFrame(
            {
                "image_id": scores.image_ids,
                "label": scores.labels,
                "budget": budget,
                **answer,
                "share": (answer["predicted"] == scores.labels).astype(float),
            }
        )
        for budget, answer in sorted(answers.items())
    ]
    control = ReplayedRace(known, agreeing, passes) if schedule and known else None
    return pd.concat(tables, ignore_index=True), control


def _schedule(spec: Spec, noise: Noise | None) -> Schedule | None:
    """The schedule that the races are decided by; None: by which noise is not known."""

    if noise is None and spec.schedule.needs_pilot:
        return None  # none has run yet

    def measured() -> Noise:
        assert noise is not None
        return noise

    exchangeable = spec.system.trial.exchangeable
    return build_schedule(spec.schedule, measured, len(spec.candidates), exchangeable)


def _classify(scores: np.ndarray, class_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Best and second class of [images, classes] scores, and the best one's posterior."""
    rows = np.arange(len(scores))
    best = scores.argmax(axis=1)
    top = scores[rows, best]
    posterior = 1 / np.exp(scores - top[:, None]).sum(axis=1)
    others = scores.copy()
    others[rows, best] = -np.inf
    return {
        "predicted": class_ids[best],
        "runner_up": class_ids[others.argmax(axis=1)],
        "posterior": posterior,
    }


def _budget_entry(budget: int, correct: np.ndarray, images: int) -> dict[str, Any]:
    """One budget's accuracies: of every group, their mean, and their sample deviation."""
    groups = correct / images
    return {
        "budget": budget,
        "images": images,
        "mean": float(correct.sum() / (images * len(correct))),
        "deviation": float(groups.std(ddof=1)) if len(groups) > 1 else None,
        "groups": groups.tolist(),
    }


def _per_class(final: pd.DataFrame) -> list[dict[str, Any]]:
    counts = final.groupby("label")["correct"].agg(["size", "sum"])
    return [
        {"class_id": int(label), "images": int(size), "correct": int(hits)}
        for label, size, hits in counts.itertuples()
    ]


def _confusions(final: pd.DataFrame) -> list[dict[str, int]]:
    """The most frequent mistakes; of equally frequent ones those of lower class ids."""
    wrong = final[~final["correct"]]
    pairs = Counter(zip(wrong["label"].tolist(), wrong["predicted"].tolist(), strict=True))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"label": label, "predicted": predicted, "images": number}
        for (label, predicted), number in ranked[:_CONFUSIONS]
    ]


def _calibration(final: pd.DataFrame, likelihood: bool) -> dict[str, Any]:
    """Reliability in equal-width bins and the expected calibration error.

    C. Guo et al., On calibration of modern neural networks, ICML 2017. For diffusion and flow the
    "posterior" is the softmax of minus the mean squared error, whose scale is arbitrary.
    """
    confidence = final["posterior"].to_numpy()
    hits = final["correct"].to_numpy()
    index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = index == number
        if inside.any():
            bins.append(
                {
                    "low": number / _BINS,
                    "high": (number + 1) / _BINS,
                    "images": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(hits[inside].mean()),
                }
            )
    gaps = [b["images"] * abs(b["confidence"] - b["accuracy"]) for b in bins]
    return {
        "ece": float(sum(gaps) / len(final)),
        "is_likelihood": likelihood,
        "bins": bins,
    }


def _costs(record: MergeRecord, work: Work, race: bool) -> dict[str, Any] | None:
    """What one image costs for one trial over all classes, and on which devices it was paid.

    race: of the images that raced, or of those that were scored exhaustively; None: there are none.
    flops_per_image: once, whatever the trials; flops_per_image_trial: besides, of each trial.
    """
    image_trials = passes = flops = memory = 0
    devices: dict[str, dict[str, float]] = {}
    for part in record.shards:
        shard = Shard.from_name(part.shard)
        if shard.race != race:
            continue
        size = len(shard.images) * len(shard.trials)
        image_trials += size
        passes += part.forward_passes
        flops += part.flops - len(shard.images) * work.image
        memory = max(memory, part.peak_memory)
        device = devices.setdefault(part.device, {"seconds": 0.0, "image_trials": 0})
        device["seconds"] += part.seconds
        device["image_trials"] += size
    if not image_trials:
        return None
    return {
        "forward_passes_per_image_trial": passes / image_trials,
        "flops_per_image": work.image,
        "flops_per_image_trial": flops / image_trials,
        "peak_memory": memory,
        "devices": [
            {
                "device": name,
                "seconds": total["seconds"],
                "seconds_per_image_trial": total["seconds"] / total["image_trials"],
            }
            for name, total in sorted(devices.items())
        ],
    }
