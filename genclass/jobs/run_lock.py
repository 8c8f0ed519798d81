"""Whose Snakemake's lock is: beside it stands which process took it, and on which machine.

Snakemake's own lock outlives a run that was killed, and does not say whose it was.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import read_json, write_json

LOCKS = Path(".snakemake/locks")
_SUFFIX = ".owner.json"


@dataclass(frozen=True)
class Owner:
    """A process for as long as it lives: ids are given again, start times and boots are not."""

    host: str
    boot: str  # this start of the machine, and its table of processes
    pid: int
    start: int  # clock ticks since the boot
    since: str  # when it took the lock, for people
    cluster: bool  # do its jobs outlive it?
    locks: list[str]  # names of the lock's files

    @property
    def is_here(self) -> bool:
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    @property
    def is_dead(self) -> bool:
        """Can it be seen from here that it no longer runs?"""
        if self.is_here:
            return _start(self.pid) != self.start
        # The same machine, started again since.
        return self.host == socket.gethostname() and _differ(self.boot, _boot())


def sign(locks: Iterable[str | Path], cluster: bool) -> None:
    """Write beside a lock that is held that it is this process's.

    Raises:
        GenclassError: the note cannot be written.
    """
    paths = sorted(map(Path, locks))
    start = _start(os.getpid())
    if not paths or start is None:
        return
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    names = [path.name for path in paths]
    owner = Owner(socket.gethostname(), _boot(), os.getpid(), start, since, cluster, names)
    number = paths[-1].name.partition(".")[0]
    write_json(paths[-1].with_name(number + _SUFFIX), asdict(owner))


def release_dead(folder: Path = LOCKS, unlock: str = "--unlock") -> list[str]:
    """Remove locks of local runs that died; returns a line for each, and for those that stay.

    unlock: the options with which Snakemake is told to unlock.
    """
    lines = []
    for note in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            owner = read_json(note, Owner, "note of a lock's owner", "delete it")
        except GenclassError:
            continue  # without it, Snakemake says what it says
        if not any((folder / name).exists() for name in owner.locks):
            note.unlink(missing_ok=True)
            continue
        who = f"process {owner.pid} on {owner.host}, from {owner.since}"
        command = f".venv/bin/snakemake {unlock}"
        if owner.is_dead and not owner.cluster:
            with suppress(OSError):
                for name in [*owner.locks, note.name]:
                    (folder / Path(name).name).unlink(missing_ok=True)
                lines.append(f"the run of {who} is dead: its lock is removed")
        elif owner.is_dead:
            lines.append(
                f"the run of {who} is dead, but its jobs may go on, and its lock is kept: look "
                f"with `squeue --me`, end them with scancel or let them end, then: {command}"
            )
        elif owner.is_here:
            lines.append(f"locked by a run that is at work: {who}: wait for it, or stop it")
        else:
            jobs = "`squeue --me` there, " if owner.cluster else ""
            lines.append(
                f"locked by the run of {who}: look whether it is at work "
                f"({jobs}`ssh {shlex.quote(owner.host)} ps -p {owner.pid}`); if not: {command}"
            )
    return lines


def _start(pid: int) -> int | None:
    """When a process started; None: there is none, or the system does not say."""
    try:
        # After the name, which may hold anything: the state is field 3, the start time field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _differ(one: str, other: str) -> bool:
    """Are these two boots, and not two containers of one?"""
    return bool(one and other) and one.split()[0] != other.split()[0]
