"""Replay: what racing would have answered and cost, from exhaustive scores and without the network.

A race looks only at scores that exhaustive scoring has too, so replaying one is exact: the same
trials, the same decisions, the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from genclass.errors import GenclassError
from genclass.racing.noise import Noise
from genclass.racing.pilot import pilot_images, pilot_noise, pilot_scores
from genclass.racing.schedule import Exhaustive, Fixed, Racing, Schedule, race_scores, ranking
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard

DELTAS = (0.5, 0.2, 0.1, 0.05, 0.01)


@dataclass(frozen=True)
class Replay:
    """One schedule on images with exhaustive scores.

    scores: as the race would have left them, float32 [images, trials, classes], NaN where it would
    not have looked; predictions: its answers, columns, int64 [images]; exhaustive: those of
    exhaustive scoring, int64 [images].
    """

    scores: np.ndarray
    predictions: np.ndarray
    exhaustive: np.ndarray

    @property
    def alive(self) -> np.ndarray:
        """How many classes were scored: int64 [images, trials]."""
        result: np.ndarray = (~np.isnan(self.scores)).sum(axis=2)
        return result

    @property
    def passes(self) -> np.ndarray:
        """Forward passes: int64 [images]."""
        result: np.ndarray = self.alive.sum(axis=1)
        return result

    @property
    def cost(self) -> float:
        """Forward passes as a share of the exhaustive ones."""
        return float((~np.isnan(self.scores)).mean())

    @property
    def agreement(self) -> float:
        """The share of images with the prediction of exhaustive scoring."""
        return float((self.predictions == self.exhaustive).mean())

    def agreement_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of the agreement on images like these: Wilson's, low and high."""
        from scipy.stats import binomtest  # takes its time; needed here only

        same = self.predictions == self.exhaustive
        interval = binomtest(int(same.sum()), len(same)).proportion_ci(confidence, method="wilson")
        return float(interval.low), float(interval.high)


def replay(scores: np.ndarray, schedule: Schedule) -> Replay:
    """Race images through a schedule: what a race of them would have answered and cost.

    Where some images of a race are scored exhaustively, this is its control: the answers there,
    their agreement with exhaustive scoring and the passes, without a forward pass more.

    scores: float [images, trials, classes], exhaustive, possibly a memory map.

    Raises:
        GenclassError: the scores hold NaN: they are those of a race; or the schedule looks at
            parts of trials, which have no scores.
    """
    raced = np.empty(scores.shape, dtype=np.float32)
    predictions, best = np.zeros((2, len(scores)), dtype=np.int64)
    for place in range(len(scores)):
        exhaustive = np.array(scores[place], dtype=np.float32)
        if np.isnan(exhaustive).any():
            raise GenclassError("these are scores of a race: a replay needs exhaustive scores")
        raced[place] = race_scores(exhaustive, schedule)
        predictions[place], best[place] = ranking(np.stack([raced[place], exhaustive]))[:, 0]
    return Replay(raced, predictions, best)


def compare(
    scores: np.ndarray, truth: np.ndarray, schedules: Mapping[str, Schedule]
) -> pd.DataFrame:
    """Schedules against each other, one row each.

    scores: float [images, trials, classes]; truth: the columns of the true classes, int [images].
    Columns: schedule, passes (the mean of an image), cost (as a share of exhaustive), agreement,
    accuracy, images.
    """
    rows = []
    for name, schedule in schedules.items():
        played = replay(scores, schedule)
        rows.append(
            {
                "schedule": name,
                "passes": float(played.passes.mean()),
                "cost": played.cost,
                "agreement": played.agreement,
                "accuracy": float((played.predictions == truth).mean()),
                "images": len(truth),
            }
        )
    return pd.DataFrame(rows)


def usual_schedules(
    trials: int, candidates: int, noise: Noise, deltas: Sequence[float] = DELTAS
) -> dict[str, Schedule]:
    """What a replay shows: racing at some errors, a fixed schedule, and smaller budgets.

    The fixed one keeps a quarter of the classes at each doubling of the trials.
    """
    schedules: dict[str, Schedule] = {
        f"racing, delta {delta:g}": Racing(noise, delta) for delta in deltas
    }
    rounds: list[tuple[int, int]] = []
    while (done := 2 ** len(rounds)) < trials and candidates > 1:
        candidates = -(-candidates // 4)
        rounds.append((done, candidates))
    if rounds:
        schedules["fixed, a quarter each doubling"] = Fixed(tuple(rounds))
    for budget in (1, 2, 5, 10, 20, 50, 100):
        if budget < trials:
            schedules[f"exhaustive, {budget} trials"] = Fixed(((budget, 1),))
    schedules[f"exhaustive, {trials} trials"] = Exhaustive()
    return schedules


def replay_files(
    files: Iterable[str | Path],
    noise: Noise | None = None,
    deltas: Sequence[float] = DELTAS,
    fixed: Fixed | None = None,
) -> tuple[pd.DataFrame, dict[str, Noise]]:
    """The `usual_schedules`, and a fixed one, on exhaustive score files, each folder for itself.

    noise: None: measured as a pilot before a race would, on a few images of the folder.

    Returns:
        The rows of `compare`, with the column `scores`, MODEL/DATASET; and the noise of each.

    Raises:
        GenclassError: a file is missing, damaged or one of a race; the files of a folder do not
            belong together; there are too few trials.
    """
    folders: dict[Path, list[Path]] = {}
    for file in map(Path, files):
        folders.setdefault(file.parent, []).append(file)
    tables, noises = [], {}
    for folder, members in folders.items():
        scores, truth = read_scores(members)
        trials, candidates = scores.shape[1:]
        if trials < 3 or candidates < 2:
            raise GenclassError(
                f"{folder}: {trials} trials of {candidates} classes: racing needs 3 and 2 at least"
            )
        name = "/".join(folder.absolute().parts[-2:])
        noises[name] = noise or replay_pilot(scores, alike(scores))
        schedules = usual_schedules(trials, candidates, noises[name], deltas)
        if fixed:
            schedules["fixed, as told"] = fixed
        tables.append(compare(scores, truth, schedules).assign(scores=name))
    if not tables:
        raise GenclassError("no score files to replay: they are results/*/scores/*/*/*.safetensors")
    return pd.concat(tables, ignore_index=True), noises


def read_scores(files: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Exhaustive scores of one model on images of one dataset, and the true classes.

    Returns:
        float32 [images, trials, classes]; int64 [images], columns, -1 where it is no candidate.

    Raises:
        GenclassError: a file is missing, damaged or one of a race, or they do not fit together.
    """
    parts: dict[tuple[int, int], list[tuple[Shard, ScoreFile]]] = {}
    for path in files:
        file = ScoreFile.read(path)
        shard = Shard.from_name(file.header.shard)
        if file.header.racing:
            raise GenclassError(f"{path}: scores of a race: a replay needs exhaustive scores")
        parts.setdefault((shard.image_start, shard.image_stop), []).append((shard, file))
    blocks, labels = [], []
    for _, found in sorted(parts.items()):
        found.sort(key=lambda pair: pair[0])
        stops = [0, *(shard.trial_stop for shard, _ in found)]
        if [shard.trial_start for shard, _ in found] != stops[:-1]:
            raise GenclassError(f"{files[0]}: trials are missing: name every shard of its folder")
        blocks.append(np.concatenate([file.scores for _, file in found], axis=1))
        labels.append(found[0][1].labels)
    headers = {file.header.spec for found in parts.values() for _, file in found}
    if len(headers) != 1 or len({block.shape[1] for block in blocks}) != 1:
        raise GenclassError(f"{files[0]}: the score files beside it have another spec or budget")
    class_ids = next(iter(parts.values()))[0][1].class_ids.tolist()
    columns = {label: column for column, label in enumerate(class_ids)}
    truth = [columns.get(label, -1) for label in np.concatenate(labels).tolist()]
    return np.concatenate(blocks), np.array(truth)


def replay_pilot(scores: np.ndarray, exchangeable: bool) -> Noise:
    """The noise that a pilot would have measured: from float [images, trials, classes]."""
    return pilot_noise(pilot_scores(scores, exchangeable), exchangeable)


def alike(scores: np.ndarray) -> bool:
    """Whether trials are exchangeable, as orders are: the mean deficits of timesteps differ."""
    profile = np.zeros(scores.shape[1])
    for place in pilot_images(len(scores)):
        image = np.asarray(scores[place], dtype=np.float64)
        profile += (image[:, [image.sum(axis=0).argmax()]] - image).mean(axis=1)
    return bool(profile.std() <= 0.25 * abs(profile.mean()))
