"""The plan: what a config would take, said before anything is downloaded or a GPU is asked for.

No torch: the plan of the whole paper is there in seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from genclass.config import Config, Dataset, Extent
from genclass.data.fetch import is_on_disk
from genclass.errors import GenclassError
from genclass.planning.rates import Rate, Rates
from genclass.planning.shard_size import cell_shards, shard_sizes
from genclass.planning.work import candidate_count
from genclass.scores.score_file import finished_shards
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
    races: bool  # passes, FLOPs and seconds are those of exhaustive scoring: more than it takes
    passes: int  # network evaluations of one image under one class
    passes_done: int
    flops: int
    seconds: float
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
    cells = []
    for (model, dataset), extent in config.cells().items():
        if model not in rates.models:
            raise GenclassError(
                f"{run.calibration}: '{model}' is not in it: repeat: genclass calibrate -c CONFIG"
            )
        spec = specs.get((model, dataset))
        done = set(finished_shards(run.scores(model, dataset), spec.sha256 if spec else None))
        shards = cell_shards(config, (model, dataset), sizes[model, dataset], done)
        cells.append(_cell(config, rates.models[model], model, dataset, extent, shards, done))
    return Plan(rates.device, rates.origin, cells, _downloads(config))


def _summed(cells: list[PlannedCell]) -> dict[str, float]:
    names = (
        "shards", "shards_done", "passes", "passes_done", "flops", "seconds", "seconds_left",
        "score_bytes",
    )  # fmt: skip
    return {name: sum(getattr(cell, name) for cell in cells) for name in names}


def _cell(
    config: Config,
    rate: Rate,
    model: str,
    dataset: str,
    extent: Extent,
    shards: list[Shard],
    done: set[Shard],
) -> PlannedCell:
    classes = candidate_count(dataset, config.datasets[dataset])
    work, trials = config.models[model].system.work, extent.trials

    def images(some: list[Shard]) -> int:
        return sum(min(shard.image_stop, extent.images) - shard.image_start for shard in some)

    def scores(some: list[Shard]) -> int:
        return classes * sum(
            images([shard]) * (min(shard.trial_stop, trials) - shard.trial_start) for shard in some
        )

    def seconds(some: list[Shard]) -> float:
        scoring = scores(some) / rate.passes_per_second if work.score else 0.0
        return scoring + images(some) * rate.seconds_per_image + len(some) * rate.seconds_per_job

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
        races=config.models[model].races,
        passes=work.passes(extent.images, whole),
        passes_done=work.passes(images(finished), scores(finished)),
        flops=work.operations(extent.images, whole),
        seconds=seconds(shards),
        seconds_left=seconds([shard for shard in shards if shard not in done]),
        score_bytes=whole * SCORE_BYTES,
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
