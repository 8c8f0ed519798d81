"""The plan: what a config would take, said before anything is downloaded or a GPU is asked for.

No torch: the plan of the whole paper is there in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from genclass.config import Config, Dataset
from genclass.data.fetch import is_on_disk
from genclass.errors import GenclassError
from genclass.planning.rates import Rate, Rates
from genclass.planning.shard_size import Cell, cell_shards, shard_sizes
from genclass.planning.work import candidate_count, race_share
from genclass.racing.pilot import Pilot, pilot_passes
from genclass.scores.score_file import Header, finished_shards
from genclass.scores.shards import Shard
from genclass.sources import LocalPlace, parse_place
from genclass.specs.cells import specs_of

SCORE_BYTES = 4  # a float32


@dataclass(frozen=True)
class PlannedCell:
    """One model on one dataset. Sizes in bytes, times in seconds of one device."""

    model: str
    dataset: str
    images: int
    classes: int  # candidates
    trials: int
    shards: int
    shards_done: int
    exhaustive: int  # of the images, those that do not race
    race_share: float | None  # of the passes of the others, as races; None: none race
    race_share_is_measured: bool  # on this cell or the model's others; else it is told or a guess
    passes: int  # network evaluations of one image under one class
    passes_done: int
    flops: int
    seconds: float  # the first cell of a model with so many candidates has those of compiling it
    seconds_left: float
    score_bytes: int


@dataclass(frozen=True)
class PlannedDownload:
    """A file from outside, and the checkpoints or datasets that need it."""

    names: list[str]
    place: str
    bytes: int | None  # about; None: not known before
    unpacked: bool  # an archive, which needs about its size once more
    done: bool  # on disk, or a file of the user's


@dataclass(frozen=True)
class Plan:
    """What a config would take."""

    device: str
    origin: str  # of the device's rates
    cells: list[PlannedCell]
    downloads: list[PlannedDownload]
    totals: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        totals = _summed(self.cells)
        sizes = [(download.bytes or 0, download) for download in self.downloads]
        totals["download_bytes"] = sum(size for size, _ in sizes)
        totals["download_bytes_left"] = sum(size for size, d in sizes if not d.done)
        totals["downloads_of_unknown_size"] = sum(
            d.bytes is None and not d.done for d in self.downloads
        )
        # Merged scores are a second, temporary copy: all at once at worst.
        totals["disk_bytes"] = (
            2 * totals["score_bytes"]
            + totals["download_bytes"]
            + sum(size for size, d in sizes if d.unpacked)
        )
        object.__setattr__(self, "totals", totals)

    def sums(self, model: str) -> dict[str, float]:
        """Of one model, over its datasets: shards, passes, FLOPs, seconds, bytes."""
        return _summed([cell for cell in self.cells if cell.model == model])

    def as_json(self) -> str:
        """All of it, for programs."""
        return json.dumps(asdict(self), indent=1)


def plan(config: Config, rates: Rates) -> Plan:
    """What the config would take at these rates, and what of it is on disk.

    Raises:
        GenclassError: a rate, or a number of classes, is missing.
    """
    run, specs, sizes = config.run, specs_of(config), shard_sizes(config)
    finished = {
        (model, dataset): finished_shards(run.scores(model, dataset), specs.get((model, dataset)))
        for model, dataset in config.cells()
    }
    kept = compiled_before(config, finished)
    counted: set[tuple[str, int]] = set()
    cells = []
    for cell in config.cells():
        if cell[0] not in rates.models:
            raise GenclassError(
                f"{run.calibration}: '{cell[0]}' is not in it: repeat: genclass calibrate -c CONFIG"
            )
        shards = cell_shards(config, cell, sizes[cell], finished[cell])
        share, rate = share_of_races(config, cell, finished), rates.models[cell[0]]
        planned = _cell(config, rate, cell, share, shards, set(finished[cell]))
        code = (cell[0], planned.classes)
        if code not in counted and _is_worth_compiling(config, rate, code, shards):
            counted.add(code)
            once, left = rate.seconds_to_compile, 0.0 if code in kept else rate.seconds_to_compile
            planned = replace(
                planned, seconds=planned.seconds + once, seconds_left=planned.seconds_left + left
            )
        cells.append(planned)
    return Plan(rates.device, rates.origin, cells, _downloads(config))


def compiled_before(
    config: Config, finished: Mapping[Cell, Collection[Shard]]
) -> set[tuple[str, int]]:
    """(model, number of candidates) whose compiled code a finished job kept for the others."""
    return {
        (model, candidate_count(dataset, config.datasets[dataset]))
        for (model, dataset), shards in finished.items()
        if shards
    }


def _is_worth_compiling(
    config: Config, rate: Rate, code: tuple[str, int], shards: Iterable[Shard]
) -> bool:
    """Is there a job of more work than that? The others do without, as they themselves decide."""
    model, classes = code
    work = config.models[model].system.work
    scores = max((len(s.images) * len(s.trials) * classes for s in shards), default=0)
    return work.score > 0 and scores / rate.passes_per_second > rate.seconds_to_compile


@dataclass(frozen=True)
class RaceShare:
    """Of the exhaustive passes, what races take; without the pilot."""

    share: float
    measured: bool


def share_of_races(
    config: Config, cell: Cell, finished: Mapping[Cell, Mapping[Shard, Header]]
) -> RaceShare | None:
    """What a cell's races take: as measured on those that are finished, of this cell or else of the
    model's others; before any is, as the model's section says or as a rule of thumb. None: no image
    of the cell races.
    """
    model, extent = cell[0], config.cells()[cell]
    if extent.exhaustive == extent.images:
        return None
    for cells in ([cell], [other for other in finished if other[0] == model]):
        raced = whole = 0
        for other in cells:
            classes = candidate_count(other[1], config.datasets[other[1]])
            for shard, header in finished[other].items():
                if shard.race:
                    raced += header.forward_passes
                    whole += len(shard.images) * len(shard.trials) * classes
            pilots = (pilot for pilot in map(Pilot.read, config.run.partial(*other).glob("*")))
            names = {shard.name for shard in finished[other]}
            raced -= sum(p.passes for p in pilots if p is not None and p.shard in names)
        if raced > 0:
            return RaceShare(raced / whole, measured=True)
    candidates = candidate_count(cell[1], config.datasets[cell[1]])
    share = race_share(config.models[model], extent.trials, candidates)
    return RaceShare(share, measured=False)


def _summed(cells: list[PlannedCell]) -> dict[str, float]:
    names = (
        "shards", "shards_done", "passes", "passes_done", "flops", "seconds", "seconds_left",
        "score_bytes",
    )  # fmt: skip
    return {name: sum(getattr(cell, name) for cell in cells) for name in names}


def _cell(
    config: Config,
    rate: Rate,
    cell: Cell,
    share: RaceShare | None,
    shards: list[Shard],
    done: set[Shard],
) -> PlannedCell:
    (model, dataset), extent = cell, config.cells()[cell]
    classes = candidate_count(dataset, config.datasets[dataset])
    system, trials = config.models[model].system, extent.trials
    work = system.work

    def images(some: list[Shard]) -> int:
        return sum(len(shard.images_in(extent.part(shard.race))) for shard in some)

    def scores(some: list[Shard]) -> int:
        """With the share of those that race, and their pilot in the first of them."""
        counts = {True: 0, False: 0}
        for shard in some:
            within = min(shard.trial_stop, trials) - shard.trial_start
            counts[shard.race] += classes * images([shard]) * within
        if share is None:
            return counts[False]
        return counts[False] + round(counts[True] * share.share) + (pilot if first in some else 0)

    def seconds(some: list[Shard]) -> float:
        scoring = scores(some) / rate.passes_per_second if work.score else 0.0
        return scoring + images(some) * rate.seconds_per_image + len(some) * rate.seconds_per_job

    first = next((shard for shard in shards if shard.race), None)
    pilot = 0
    strategy = config.models[model].strategy
    if strategy.needs_pilot:
        exchangeable = system.trial.exchangeable
        pilot = pilot_passes(config.datasets[dataset].images, classes, trials, exchangeable)
    finished = [shard for shard in shards if shard in done]
    whole = scores(shards)
    return PlannedCell(
        model=model,
        dataset=dataset,
        images=extent.images,
        classes=classes,
        trials=trials,
        shards=len(shards),
        shards_done=len(finished),
        exhaustive=extent.exhaustive,
        race_share=share.share if share else None,
        race_share_is_measured=share is not None and share.measured,
        passes=work.passes(extent.images, whole),
        passes_done=work.passes(images(finished), scores(finished)),
        flops=work.operations(extent.images, whole),
        seconds=seconds(shards),
        seconds_left=seconds([shard for shard in shards if shard not in done]),
        score_bytes=classes * trials * extent.images * SCORE_BYTES,
    )


def _downloads(config: Config) -> list[PlannedDownload]:
    """What the evaluations need from outside; datasets that come in one archive need it once."""
    needed = config.sources()
    files: dict[str, list[tuple[str, str]]] = {}
    for key, download in needed.items():
        remote = [p for p in download.places if not isinstance(parse_place(p), LocalPlace)]
        if remote:
            files.setdefault(remote[0], []).append(key)
    planned = []
    for place, keys in files.items():
        download = needed[keys[0]]
        manifests = [config.run.manifest(kind, name) for kind, name in keys]
        planned.append(
            PlannedDownload(
                names=[name for _, name in keys],
                place=place,
                bytes=download.bytes or download.about_bytes,
                unpacked=isinstance(download, Dataset),
                done=all(path.is_file() for path in manifests)
                or all(is_on_disk(n, needed[k, n], Path(config.downloads)) for k, n in keys),
            )
        )
    return planned
