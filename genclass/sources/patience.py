"""Patience with what may work a little later, and what a place says that gives nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from genclass.sources.progress import Progress

T = TypeVar("T")

_PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be different a little later


class PlaceFailed(Exception):
    """This place does not give the file, whatever one does; the text says why. Try the next one."""


class TryAgain(Exception):
    """It did not work this time; `wait` seconds are what the server asks for, if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long to bear with a bad connection, in seconds."""

    timeout: float = 60.0  # silence after which a connection counts as stalled
    attempts: int = 6  # in a row that bring nothing new
    pause: float = 1.0  # before the second attempt; doubles from there
    longest_pause: float = 300.0  # a server that asks for a longer one is left for the next place


def persist(
    attempt: Callable[[], T],
    *,
    name: str,
    patience: Patience,
    progress: Progress,
    reached: Callable[[], int] = lambda: 0,
) -> T:
    """Call `attempt` until it succeeds, with back-off and jitter.

    An attempt after which `reached()` is higher than ever before is not counted: a connection that
    is cut every minute still gets there.

    Raises:
        PlaceFailed: by `attempt`, or when patience ends.
    """
    furthest, failures = reached(), 0
    while True:
        try:
            return attempt()
        except TryAgain as error:
            progress.close()
            now = reached()
            failures = 0 if now > furthest else failures + 1
            furthest = max(furthest, now)
            if failures >= patience.attempts:
                raise PlaceFailed(f"{error} ({failures} attempts)") from error
            pause = patience.pause * 2**failures * random.uniform(0.5, 1)
            pause = min(pause, patience.longest_pause) if error.wait is None else error.wait
            if pause > patience.longest_pause:
                raise PlaceFailed(f"{error}, and asks to wait {pause:.0f} s") from error
            progress.say(f"{name}: {error}; trying again in {pause:.1f} s")
            time.sleep(pause)


def refuse_status(status: int, headers: Mapping[str, str]) -> None:
    """Raises TryAgain or PlaceFailed for an HTTP status that brings no file."""
    if status in _PASSING:
        raise TryAgain(f"HTTP {status}", _retry_after(headers.get("Retry-After", "")))
    if status >= 300:
        raise PlaceFailed(f"HTTP {status}")


def _retry_after(value: str) -> float | None:
    if value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
