"""How much an evaluation is, read off the config alone. No torch."""

from __future__ import annotations

from genclass.config import Dataset, FixedStrategy, Model
from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError


def candidate_count(name: str, dataset: Dataset) -> int:
    """How many classes are scored on a dataset.

    Raises:
        GenclassError: they are the present ones, and the config does not say how many.
    """
    if dataset.candidates == "all":
        return len(ClassList.load(dataset.labels).entries)
    if dataset.classes is None:
        raise GenclassError(
            f"datasets.{name}: its candidates are the classes present: add `classes:`, their number"
        )
    return dataset.classes


def race_share(model: Model, trials: int, candidates: int) -> float:
    """The share of the exhaustive passes that races take, as the model says, or as a rule of thumb.

    All classes are scored once, 1 / trials. Where trials are all drawn alike, as orders are, the
    rest takes about as much again; of timesteps, the first of which say less, more than twice that
    (docs/racing.md has what was measured). Without the pilot. A fixed schedule says it itself.
    """
    if model.race_share is not None:
        return model.race_share
    if isinstance(model.strategy, FixedStrategy):
        return _passes_of_a_schedule(model, trials, candidates) / (trials * candidates)
    return min(1.0, (2 if model.system.trial.exchangeable else 3.5) / trials)


def _passes_of_a_schedule(model: Model, trials: int, candidates: int) -> float:
    """Of an image under a fixed schedule; looks at parts count as the part of a pass they are."""
    schedule, work = model.strategy, model.system.work
    assert isinstance(schedule, FixedStrategy)
    looks = schedule.scores_of_parts(candidates).items()
    passes = sum(work.operations(0, classes, part) / work.score for part, classes in looks)
    going, done = min([candidates, *(keep for _, keep in schedule.parts)]), 0
    for after, keep in [*((a, k) for a, k in schedule.rounds if a < trials), (trials, 1)]:
        passes += going * (after - done)
        going, done = min(going, keep), after
        if going == 1:
            break
    return passes
