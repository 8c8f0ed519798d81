"""The wake-up calls of Snakemake's scheduler, one at a time.

Snakemake 9 asks for another one in each of its rounds, also in those that a finished job starts,
and each goes on for ever: with 300 jobs done, its rounds take a whole core.
"""

from __future__ import annotations

import threading
from typing import Any


def wake_once(scheduler: Any) -> bool:
    """Let at most one wake-up call wait in this run.

    scheduler: Snakemake's, before it starts.

    Returns:
        Whether it could be done: the names are Snakemake's own, and may change.
    """
    if not (hasattr(scheduler, "_schedule_reevalutation") and hasattr(scheduler, "_open_jobs")):
        return False
    waiting = threading.Lock()

    def ring() -> None:
        waiting.release()  # first: the round that is woken asks for the next call
        scheduler._open_jobs.release()

    def wake(delay: float) -> None:
        if waiting.acquire(blocking=False):
            threading.Timer(delay, ring).start()

    scheduler._schedule_reevalutation = wake
    return True
