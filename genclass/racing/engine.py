"""Race: score images under a schedule, the survivors of several images together in full batches."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genclass.errors import GenclassError
from genclass.racing.schedule import Schedule, Step, walk
from genclass.scorers.fitting import MODERATE, fitting

if TYPE_CHECKING:
    from genclass.scorers.scorer import Prepared, Scorer

_TAIL = 8  # where sizes are fixed, a batch is whole or this part of it

Entry = tuple["Prepared", int, int]  # one forward pass: image, trial, class


@dataclass(frozen=True)
class Raced:
    """One image's race: its place among the images; float32 [budget, classes], NaN where a class
    had dropped out; seconds, its share of those of its batches."""

    place: int
    scores: np.ndarray
    seconds: float


class EntryScorer:
    """Scores lists of entries, at most `batch` and `MODERATE` at once; out of GPU memory, fewer.

    fixed_sizes: a batch is padded to one of two sizes, and both are run once before the first:
    on a GPU each size is compiled for itself, in up to half a minute, so none may turn up in the
    middle of a shard. None: on a GPU.
    """

    def __init__(self, scorer: Scorer, batch: int, fixed_sizes: bool | None = None) -> None:
        self.scorer = scorer
        self.batch = min(batch, MODERATE)
        self._fixed = scorer.device.type == "cuda" if fixed_sizes is None else fixed_sizes
        self._compiled: set[tuple[int, int | None]] = set()

    def __call__(self, entries: Sequence[Entry], part: int | None = None) -> Tensor:
        """float32 [entries], on the device; part: of each trial its first parts alone.

        Raises:
            GenclassError: not even one entry at a time fits into memory.
        """
        found: list[Tensor] = []
        done = 0
        while done < len(entries):

            def attempt(batch: int, done: int = done) -> Tensor:
                return self._score(entries[done : done + batch], part, batch)

            scores, self.batch = fitting(attempt, self.batch, self.scorer.device)
            found.append(scores)
            done += len(scores)
        return torch.cat(found)

    def _score(self, entries: Sequence[Entry], part: int | None, batch: int) -> Tensor:
        if not self._fixed:
            return self._padded(entries, part, len(entries))
        tail = max(1, batch // _TAIL)
        if (batch, part) not in self._compiled:
            for size in {batch, tail}:
                self._padded(entries[:1], part, size)
            self._compiled.add((batch, part))
        return self._padded(entries, part, tail if len(entries) <= tail else batch)

    @torch.inference_mode()
    def _padded(self, entries: Sequence[Entry], part: int | None, size: int) -> Tensor:
        padded = [*entries, *[entries[-1]] * (size - len(entries))]
        prepared, trials, classes = zip(*padded, strict=True)
        columns = torch.tensor(classes).to(self.scorer.device, non_blocking=True)
        return self.scorer.score(prepared, trials, columns, part)[: len(entries)]


def checked(entries: Sequence[Entry], scores: Tensor) -> list[float]:
    """The scores of entries, on the CPU: of each image as soon as it is scored.

    Raises:
        GenclassError: one is not finite.
    """
    values: list[float] = scores.float().cpu().tolist()
    for (prepared, trial, label), value in zip(entries, values, strict=True):
        if not math.isfinite(value):
            draws = prepared.draws
            raise GenclassError(
                f"{draws.dataset}/{draws.image_id}: the score of class {label} in trial {trial} is "
                f"{value}: set the model's dtype to float32; if that does not help, its checkpoint "
                f"is damaged"
            )
    return values


def race(
    scorer: EntryScorer,
    images: Iterable[Prepared],
    candidates: Sequence[int],
    budget: int,
    schedule: Schedule,
) -> Iterator[Raced]:
    """Race every image; they come in the order in which they end.

    No image's scores or decisions depend on the others. Images are taken from `images` only as
    batches need filling, so those under way are about as many as fill two batches.

    Raises:
        GenclassError: a score is not finite, or not even one entry at a time fits into memory.
    """
    fresh = enumerate(images)
    # Parts are shorter than whole trials: they fill batches of their own.
    waiting: dict[int | None, deque[_Ask]] = {p: deque() for p in (*schedule.parts, None)}
    # Two batches are under way: while one is computed, the decisions after the other are made.
    flying: deque[tuple[list[_Ask], list[Entry], Tensor]] = deque()
    mark = time.perf_counter()
    while True:
        while all(len(asks) < scorer.batch for asks in waiting.values()):
            if (new := next(fresh, None)) is None:
                break
            runner = _Runner(*new, schedule, budget, len(candidates))
            waiting[runner.step.part].extend(runner.asks())
        part, asks = max(waiting.items(), key=lambda entry: len(entry[1]))
        if asks and (not flying or (len(flying) == 1 and len(asks) >= scorer.batch)):
            taken = [asks.popleft() for _ in range(min(scorer.batch, len(asks)))]
            entries = [runner.entry(row, place, candidates) for runner, row, place in taken]
            flying.append((taken, entries, scorer(entries, part)))
        elif flying:
            taken, entries, scores = flying.popleft()
            values = checked(entries, scores)
            now = time.perf_counter()
            seconds, mark = (now - mark) / len(taken), now
            for (runner, row, place), value in zip(taken, values, strict=True):
                runner.answer(row, place, value, seconds)
            for runner in dict.fromkeys(runner for runner, _, _ in taken):
                if runner.missing:
                    continue
                if runner.goes_on():
                    waiting[runner.step.part].extend(runner.asks())
                else:
                    yield Raced(runner.place, runner.scores, runner.seconds)
        else:
            return


class _Runner:
    """An image on its way: what a step asks for comes in one by one, from several batches.

    step: under way; missing: scores of it that are not there yet; scores: at the end.
    """

    step: Step
    missing: int
    scores: np.ndarray

    def __init__(
        self, place: int, prepared: Prepared, schedule: Schedule, budget: int, classes: int
    ) -> None:
        self.place, self.prepared = place, prepared
        self.seconds = 0.0
        self._walk = walk(schedule, budget, classes)
        self._begin(next(self._walk))

    def asks(self) -> list[_Ask]:
        """What the step asks for."""
        rows, places = self._found.shape
        return [(self, row, place) for row in range(rows) for place in range(places)]

    def entry(self, row: int, place: int, candidates: Sequence[int]) -> Entry:
        column = int(self.step.columns[place])
        return self.prepared, self.step.trials[row], candidates[column]

    def answer(self, row: int, place: int, score: float, seconds: float) -> None:
        """One score that was asked for."""
        self._found[row, place] = score
        self.missing -= 1
        self.seconds += seconds

    def goes_on(self) -> bool:
        """Take the next step, once nothing is missing; at the end there is none."""
        try:
            self._begin(self._walk.send(self._found))
        except StopIteration as end:
            self.scores = end.value
            return False
        return True

    def _begin(self, step: Step) -> None:
        self.step = step
        self._found = np.empty((len(step.trials), len(step.columns)), dtype=np.float32)
        self.missing = self._found.size


_Ask = tuple[_Runner, int, int]  # image, and the row and place of the score in its step
