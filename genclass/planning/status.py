"""How far a reproduction is, read off its files: on any machine that sees them, at any time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from genclass.config import Config, Extent
from genclass.jobs.partial import is_worked_on, peek
from genclass.planning.shard_size import cell_shards, shard_sizes
from genclass.scores.score_file import finished_shards
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec

_TAIL = 20_000  # bytes of a log that are looked at
_RATE = re.compile(r"images, ([0-9.e+-]+) images/s")


@dataclass(frozen=True)
class TimeLeft:
    """What remains of a cell: on the devices that work on it, or on one that would."""

    seconds: float
    of_one_device: bool = False


@dataclass
class CellStatus:
    """One model on one dataset."""

    model: str
    dataset: str
    images: int
    images_done: float = 0  # under all trials
    done: int = 0  # shards
    running: int = 0
    waiting: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)  # log, and what it says
    rate: float = 0.0  # images a second under all trials, of the jobs that run
    seconds: float = 0.0  # of one device, for what is done

    @property
    def shards(self) -> int:
        return self.done + self.running + self.waiting + len(self.failed)

    @property
    def left(self) -> TimeLeft | None:
        """As the jobs run that run now; else on one device; None: nothing tells."""
        images = self.images - self.images_done
        if images <= 0:
            return TimeLeft(0.0)
        if self.rate:
            return TimeLeft(images / self.rate)
        if self.images_done and self.seconds:
            return TimeLeft(images * self.seconds / self.images_done, of_one_device=True)
        return None


def status(config: Config) -> list[CellStatus]:
    """Every cell of the config: what is done under the specs that it asks for now."""
    sizes, specs = shard_sizes(config), specs_of(config)
    return [
        _cell(config, model, dataset, extent, sizes[model, dataset], specs.get((model, dataset)))
        for (model, dataset), extent in config.cells().items()
    ]


def _cell(
    config: Config, model: str, dataset: str, extent: Extent, size: int, asked: Spec | None
) -> CellStatus:
    run = config.run
    images, trials = extent.images, extent.trials
    cell = CellStatus(model, dataset, images)
    finished = finished_shards(run.scores(model, dataset), asked)
    for shard in cell_shards(config, (model, dataset), size, finished):
        size = len(shard.images_in(extent.part(shard.race)))
        share = min(len(shard.trials), trials - shard.trial_start) / trials
        if shard in finished:
            cell.done += 1
            cell.images_done += size * share
            cell.seconds += finished[shard].seconds
            continue
        spec = asked.of(shard).sha256 if asked else "none"
        partial = run.partial(model, dataset) / spec / f"{shard.name}.partial"
        log = run.log("evaluate", model, dataset, shard.name)
        scored, seconds = peek(partial)
        scored = min(scored, size)  # what reaches beyond the cell is clipped
        cell.images_done += scored * share
        cell.seconds += seconds
        tail = _tail(log)
        if is_worked_on(partial):
            cell.running += 1
            told = _RATE.findall(tail)
            rate = float(told[-1]) if told else scored / seconds if seconds else 0.0
            cell.rate += rate * share
        elif message := _failure(tail):
            cell.failed.append((log, message))
        else:
            cell.waiting += 1
    return cell


def failure_of(log: Path) -> str | None:
    """What a log says of why its job failed; None where it did not, or was only stopped."""
    return _failure(_tail(log))


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _failure(tail: str) -> str | None:
    lines = tail.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    return lines[-1] if "Traceback (most recent call last):" in tail else None
