"""The plan: what a config would take, said before anything is downloaded or a GPU is asked for.

No torch: the plan of the whole paper is there in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from genclass.config import Config, Dataset, Extent
from genclass.data.fetch import is_on_disk
from genclass.errors import GenclassError
from genclass.planning.rates import Rate, Rates, calibration_path, guessed_rates
from genclass.planning.shard_size import cell_shards, shard_sizes
from genclass.planning.work import candidate_count
from genclass.scores.score_file import finished_shards
from genclass.scores.shards import Shard
from genclass.sources import HubPlace, LocalPlace, UrlPlace, parse_place
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec

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


def plan_command(config: Config, gpu: str | None, as_json: bool, console: Console) -> None:
    """`genclass plan`: by the calibration beside the results if there is one and no `gpu`.

    Raises:
        GenclassError: see `guessed_rates` and `plan`.
    """
    calibration = calibration_path(config)
    if gpu is None and calibration.is_file():
        rates = Rates.read(calibration)
    else:
        rates = guessed_rates(config, "H100" if gpu is None else gpu)
    found = plan(config, rates)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        render(found, console)


def plan(config: Config, rates: Rates) -> Plan:
    """What the config would take at these rates, and what of it is on disk.

    Raises:
        GenclassError: a rate, or a number of classes, is missing.
    """
    specs, sizes = specs_of(config), shard_sizes(config)
    cells = []
    for (model, dataset), extent in config.cells().items():
        if model not in rates.models:
            raise GenclassError(
                f"{calibration_path(config)}: '{model}' is not in it: "
                f"repeat: genclass calibrate -c CONFIG"
            )
        folder = Path(config.results) / "scores" / model / dataset
        done = set(finished_shards(folder, _sha256(specs.get((model, dataset)))))
        shards = cell_shards(config, (model, dataset), sizes[model, dataset], done)
        cells.append(_cell(config, rates.models[model], model, dataset, extent, shards, done))
    return Plan(rates.device, rates.origin, cells, _downloads(config))


def _sha256(spec: Spec | None) -> str | None:
    return spec.sha256 if spec else None


def render(plan: Plan, console: Console) -> None:
    """Print a plan as tables; they fit into 80 columns."""
    work = _table("model, dataset", "images\nx classes\nx trials")
    for name in ("jobs", "passes", "FLOPs", "time"):
        work.add_column(name, justify="right", no_wrap=True)
    done = plan.totals["passes_done"] > 0
    if done:
        work.add_column("done", justify="right", no_wrap=True)
    models: dict[str, list[PlannedCell]] = {}
    for cell in plan.cells:
        models.setdefault(cell.model, []).append(cell)
    for model, cells in models.items():
        name = f"{model} (races: at most)" if cells[0].races else model
        work.add_row(name, "", *_columns(_summed(cells), done), style="bold")
        for cell in cells:
            size = f"{cell.images}x{cell.classes}x{cell.trials}"
            work.add_row(f" {cell.dataset}", size, *_columns(asdict(cell), done))
    work.add_section()
    work.add_row("total", "", *_columns(plan.totals, done), style="bold")
    files = _table("download", "size")
    files.add_column("from")
    files.add_column("on disk")
    for download in plan.downloads:
        size = "unknown" if download.bytes is None else short(download.bytes, "B")
        first, *more = download.names
        names = f"{first} and {len(more)} more" if more else first
        files.add_row(names, size, _site(download.place), "yes" if download.done else "no")
    console.print(work)
    if plan.downloads:
        console.print()
        console.print(files)
    console.print()
    totals = plan.totals
    unknown = int(totals["downloads_of_unknown_size"])
    plural = "s" if unknown > 1 else ""
    more_files = f", and {unknown} file{plural} of unknown size" if unknown else ""
    console.print(
        f"Left to do: {_time(totals['seconds_left'])} of one {plan.device} "
        f"({plan.origin}).\n"
        f"Left to download: {short(totals['download_bytes_left'], 'B')}{more_files}.\n"
        f"Disk for everything, at most: {short(totals['disk_bytes'], 'B')}{more_files}.",
        soft_wrap=True,
    )


def _table(name: str, size: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(name, overflow="fold")
    table.add_column(size, justify="right", no_wrap=True)
    return table


def _summed(cells: list[PlannedCell]) -> dict[str, float]:
    names = (
        "shards", "shards_done", "passes", "passes_done", "flops", "seconds", "seconds_left",
        "score_bytes",
    )  # fmt: skip
    return {name: sum(getattr(cell, name) for cell in cells) for name in names}


def _columns(work: Mapping[str, Any], done: bool) -> list[str]:
    """Jobs, passes, FLOPs, time and, where anything is done, the share of it."""
    columns = [
        f"{work['shards']:,}",
        short(work["passes"]),
        short(work["flops"]),
        _time(work["seconds"]),
    ]
    return [*columns, f"{work['passes_done'] / work['passes']:.0%}"] if done else columns


def short(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.23 G."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(number) < 999.5 or prefix == "Z":
            break
        number /= 1000
    digits = f"{number:.0f}" if number >= 99.95 or not prefix else f"{number:.3g}"
    return f"{digits} {prefix}{unit}".strip()


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            count = seconds / length
            return f"{count:,.0f} {unit}" if count >= 99.95 else f"{count:.3g} {unit}"
    return f"{seconds:.3g} s"


def _site(text: str) -> str:
    """A place's server, or its repository on the hub."""
    place = parse_place(text)
    if isinstance(place, HubPlace):
        return f"hf://{place.page}"
    return urlsplit(place.url).netloc if isinstance(place, UrlPlace) else str(place)


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
        manifests = [Path(config.results, "manifests", k, f"{n}.json") for k, n in keys]
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
