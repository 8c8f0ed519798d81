"""GPUs: which ones a job may use, a lease on some of them, and one process for each.

No torch: a job that was given the wrong GPUs says so before it is imported.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar, cast

from filelock import FileLock, Timeout

from genclass.errors import GenclassError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_QUERY = ("nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader")

_READY = None  # what a process says when it is ready for an item

Item = TypeVar("Item")
Result = TypeVar("Result")


def driver_says() -> list[tuple[str, str, str]]:
    """(index, name, driver's version) of each GPU of this machine that the driver shows us."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True)
        rows = [line.split(", ") for line in done.stdout.splitlines()]
        return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]
    return []


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists; where it is not set, all that the driver shows."""
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        return [index for index, _, _ in driver_says()]
    names = [name.strip() for name in listed.split(",")]
    return [name for name in names if name not in ("", "-1", "NoDevFiles")]


def requested_gpus(gpu: int, gres: str) -> int:
    """How many GPUs the resources `gpu` and `gres` (gpu, gpu:2, gpu:a100:2) of a job ask for.

    Raises:
        GenclassError: both of them ask for some.
    """
    match = re.fullmatch(r"gpu(:[\w.-]*[A-Za-z_.-][\w.-]*)?(:(\d+))?", gres)
    by_gres = int(match[3] or 1) if match else 0
    if gpu and by_gres:
        raise GenclassError(
            f"the profile asks for GPUs twice, gpu={gpu} and gres={gres}: with gres, set gpu=0"
        )
    return gpu or by_gres


def check_gpus(requested: int, visible: Sequence[str], device: str) -> int:
    """How many of the visible GPUs the job takes; 0 where it runs on the CPU.

    device: auto, cpu or cuda. `auto` is the CPU where there is no GPU; but not on a cluster, where
    one was asked for and not given. On the CPU, GPUs count as places to work at.

    Raises:
        GenclassError: fewer are visible than requested.
    """
    if device == "cuda" and not requested:
        raise GenclassError("device is cuda, but the job asks for no GPU: set its resource gpu")
    optional = device == "cpu" or (device == "auto" and "SLURM_JOB_ID" not in os.environ)
    if len(visible) < requested and not (optional and not visible):
        listed = os.environ.get(_VISIBLE)
        raise GenclassError(
            f"GPUs: {requested} asked for, {len(visible)} visible on {os.uname().nodename} "
            f"({_VISIBLE} is {'not set' if listed is None else repr(listed)}): check the job's "
            f"GPU request in the profile and the node's driver, or set device: cpu"
        )
    return min(requested, len(visible))


def lease_folder() -> Path:
    """Of this machine, user and SLURM job; SLURM itself gives a GPU to one job only."""
    job = os.environ.get("SLURM_JOB_ID", "here")
    return Path(tempfile.gettempdir()) / f"genclass-gpus-{os.getuid()}" / job


@contextmanager
def lease(names: Sequence[str], count: int) -> Iterator[list[str]]:
    """Hold `count` of these GPUs, and wait while other processes of this machine hold them.

    This process, and those it starts, see no others meanwhile; with a count of 0, none. All or
    none are held, so that two who want several do not wait for each other. The lock of a process
    that died, however it died, is free.
    """
    folder = lease_folder()
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with ExitStack() as held:
            mine: list[str] = []
            for name in names:
                if len(mine) == count:
                    break
                with suppress(Timeout):
                    lock = FileLock(folder / f"{name.replace('/', '-')}.lock", timeout=0)
                    held.enter_context(lock)
                    mine.append(name)
            if len(mine) == count:
                held.enter_context(_seen(mine))
                yield mine
                return
        if not told:
            print(
                f"waiting for {count} of the GPUs {', '.join(names)}: others use them", flush=True
            )
            told = True
        time.sleep(random.uniform(0.5, 1.5))


@contextmanager
def _seen(names: Sequence[str]) -> Iterator[None]:
    """CUDA, where it starts meanwhile, sees these GPUs only."""
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = ",".join(names)
    try:
        yield
    finally:
        os.environ.pop(_VISIBLE)
        if before is not None:
            os.environ[_VISIBLE] = before


Handle = Callable[[Item], Iterable[Result]]


def fan_out(
    gpus: Sequence[str], make: Callable[[], Handle[Item, Result]], items: Iterable[Item]
) -> Iterator[Result]:
    """One process a GPU, each of which sees only its own: the results, as they come.

    make: runs once in each process and gives what makes results of an item there. Each process
    takes the next item when it is done with one.

    Raises:
        GenclassError: as an item raised it, or a process died.
    """
    todo = iter(items)
    busy: dict[Connection, str] = {}
    processes = []
    try:
        for gpu in gpus:
            process, connection = _start(gpu, make)
            processes.append(process)
            busy[connection] = gpu
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                try:
                    said = connection.recv()
                    if said is _READY:
                        item = next(todo, None)
                        connection.send(item)
                except (EOFError, OSError):
                    raise GenclassError(
                        f"the process of GPU {busy[connection]} died: see above; a rerun goes on "
                        f"from here"
                    ) from None
                if isinstance(said, GenclassError):
                    raise said
                if said is not _READY:
                    yield said
                elif item is None:
                    del busy[connection]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _start(gpu: str, make: Callable[[], Handle[Item, Result]]) -> tuple[SpawnProcess, Connection]:
    """A process that sees one GPU from its first moment on, and our end of a pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, make), daemon=True)
    with _seen([gpu]):
        process.start()
    theirs.close()
    return process, ours


def _work(connection: Connection, make: Callable[[], Handle[Item, Result]]) -> None:
    """A process of `fan_out`. It ends with its parent, who alone answers to signals."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            handle = make()
            connection.send(_READY)
            while (item := connection.recv()) is not None:
                for result in handle(item):
                    connection.send(result)
                connection.send(_READY)
        except GenclassError as error:
            connection.send(error)
