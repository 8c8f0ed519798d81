"""Race: score images under a schedule, the survivors of several images together in full batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from genclass.racing.schedule import Schedule
from genclass.scorers.fitting import fitting
from genclass.scorers.scorer import Prepared, Scorer

_TAIL = 8  # on a GPU a batch is whole or this part of it: each size is compiled for itself

Entry = tuple[Prepared, int, int]  # one forward pass: image, trial, class


@dataclass(frozen=True)
class Raced:
    """One image's race: its place among the images; float32 [budget, classes], NaN where a class
    had dropped out; seconds, its share of those of its batches."""

    place: int
    scores: np.ndarray
    seconds: float


class PairScorer:
    """Scores lists of entries, at most `batch` at once; out of GPU memory, halves `batch`."""

    def __init__(self, classifier: Scorer, batch: int) -> None:
        self.classifier = classifier
        self.batch = batch

    def __call__(self, entries: Sequence[Entry], tokens: int | None = None) -> Tensor:
        """float32 [entries], on the device; tokens: of each order the first ones alone.

        Raises:
            GenclassError: not even one entry at a time fits into memory.
        """
        parts: list[Tensor] = []
        done = 0
        while done < len(entries):

            def attempt(batch: int, done: int = done) -> Tensor:
                return self._score(entries[done : done + batch], tokens, batch)

            part, self.batch = fitting(attempt, self.batch, self.classifier.device)
            parts.append(part)
            done += len(part)
        return torch.cat(parts)

    @torch.inference_mode()
    def _score(self, entries: Sequence[Entry], tokens: int | None, batch: int) -> Tensor:
        size = len(entries)
        if self.classifier.device.type == "cuda":
            tail = max(1, batch // _TAIL)
            size = tail if size <= tail else batch
        padded = [*entries, *[entries[-1]] * (size - len(entries))]
        prepared, trials, classes = zip(*padded, strict=True)
        columns = torch.tensor(classes).to(self.classifier.device, non_blocking=True)
        scores = self.classifier.score(prepared, trials, columns, tokens)
        return scores[: len(entries)]


def race(
    scorer: PairScorer,
    images: Iterable[Prepared],
    candidates: Sequence[int],
    budget: int,
    schedule: Schedule,
) -> Iterator[Raced]:
    """Race every image; they come in the order in which they end.

    No image's scores or decisions depend on the others. Images are taken from `images` only as
    batches need filling, so those under way are about as many as fill two batches.
    """
    fresh = enumerate(images)
    # Looks at first tokens are shorter sequences than whole trials: they fill batches of their own.
    waiting: dict[int | None, deque[_Ask]] = {schedule.tokens: deque(), None: deque()}
    # Two batches are under way: while one is computed, the decisions after the other are made.
    flying: deque[tuple[list[_Ask], Tensor]] = deque()
    mark = time.perf_counter()
    while True:
        while all(len(asks) < scorer.batch for asks in waiting.values()):
            if (new := next(fresh, None)) is None:
                break
            runner = _Runner(*new, budget, schedule, len(candidates))
            waiting[runner.tokens].extend(runner.next_asks())
        tokens, asks = max(waiting.items(), key=lambda entry: len(entry[1]))
        if asks and (not flying or (len(flying) == 1 and len(asks) >= scorer.batch)):
            taken = [asks.popleft() for _ in range(min(scorer.batch, len(asks)))]
            entries = [(r.prepared, trial, candidates[column]) for r, trial, column in taken]
            flying.append((taken, scorer(entries, tokens)))
        elif flying:
            taken, scores = flying.popleft()
            values = scores.float().cpu().tolist()
            now = time.perf_counter()
            seconds, mark = (now - mark) / len(taken), now
            for (runner, trial, column), value in zip(taken, values, strict=True):
                runner.answer(trial, column, value, seconds)
            for runner in dict.fromkeys(runner for runner, _, _ in taken):
                if runner.missing == 0:
                    waiting[runner.tokens].extend(runner.next_asks())
                    if runner.missing == 0:  # nothing more is asked for
                        yield Raced(runner.place, runner.scores, runner.seconds)
        else:
            return


@dataclass(eq=False)
class _Runner:
    """An image on its way."""

    place: int
    prepared: Prepared
    budget: int
    schedule: Schedule
    classes: int
    seconds: float = 0.0
    missing: int = 0  # scores that are asked for and not yet there
    scores: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.scores = np.full((self.budget, self.classes), np.nan, dtype=np.float32)
        self.tokens = self.schedule.tokens  # of what is asked for next, the first tokens alone
        self._firsts = np.zeros(self.classes, dtype=np.float32)
        self._stops = [*self.schedule.looks(self.budget), self.budget]
        self._done = 0
        self._going = np.ones(self.classes, dtype=bool)

    def next_asks(self) -> list[_Ask]:
        """What is to be scored up to the next look; nothing at the end."""
        if self._done == self.budget:
            return []
        if self.tokens is not None:
            return self._ask(range(1))
        if self._done:
            self._going = self.schedule.survivors(self.scores[: self._done], self.budget)
            if self._going.sum() == 1:
                return []
        start, self._done = self._done, self._stops.pop(0)
        return self._ask(range(start, self._done))

    def answer(self, trial: int, column: int, score: float, seconds: float) -> None:
        """What was asked for, one score at a time."""
        self.missing -= 1
        self.seconds += seconds
        if self.tokens is None:
            self.scores[trial, column] = score
            return
        self._firsts[column] = score
        if self.missing == 0:
            self._going = self.schedule.admitted(self._firsts, self.budget)
            self.tokens = None

    def _ask(self, trials: range) -> list[_Ask]:
        columns = np.flatnonzero(self._going).tolist()
        asks = [(self, trial, column) for trial in trials for column in columns]
        self.missing = len(asks)
        return asks


_Ask = tuple[_Runner, int, int]  # one forward pass: image, trial, column
