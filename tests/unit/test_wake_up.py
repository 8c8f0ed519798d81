"""Snakemake's scheduler is woken by one call at a time."""

import inspect
import threading
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from genclass.jobs.wake_up import wake_once


def test_one_wake_up_call_waits_and_the_next_may_follow() -> None:
    rounds = threading.Semaphore(0)
    scheduler = SimpleNamespace(_open_jobs=rounds, _schedule_reevalutation=None)
    assert wake_once(scheduler)
    before = threading.active_count()
    for _ in range(50):
        scheduler._schedule_reevalutation(0.05)
    assert threading.active_count() <= before + 1
    assert rounds.acquire(timeout=10)
    assert not rounds.acquire(blocking=False)
    scheduler._schedule_reevalutation(0.05)
    assert rounds.acquire(timeout=10)


def test_it_is_what_the_installed_snakemake_has() -> None:
    source = inspect.getsource(JobScheduler)
    assert hasattr(JobScheduler, "_schedule_reevalutation")
    assert "self._open_jobs.release()" in source


def test_another_scheduler_is_left_alone() -> None:
    assert not wake_once(SimpleNamespace())
