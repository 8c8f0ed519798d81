"""How an evaluation is divided into jobs: the shards of a cell, and how many images each takes.

As many as the config says, or as fit into the minutes wished for. No torch: Snakemake asks at
every start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from genclass.config import Config
from genclass.errors import GenclassError
from genclass.files import read_json, write_if_changed
from genclass.planning.allotment import Allotment, Cell, Numbers, flat, nested
from genclass.planning.rates import Rates
from genclass.planning.work import candidate_count, race_share
from genclass.scores.shards import Shard, plan_shards
from genclass.section import PositiveInt, Section


class _Record(Section):
    """What `record` writes: the wish, and by model and dataset the images of a shard."""

    wish: dict[str, PositiveInt | None]
    images: Numbers


def shard_sizes(config: Config) -> dict[Cell, int]:
    """Images of a shard, for each cell.

    In a run of hours they are what was allotted. With `target_shard_minutes`, the calibration
    decides, once: `record` keeps what was decided, so that a job that is halfway through is found
    again by its name. Without, or where a model is not
    calibrated, it is the model's `images_per_shard`, else `shards.images`: so many with all of the
    network's classes as candidates, and of fewer candidates as many more.

    Raises:
        GenclassError: the calibration or the record is damaged.
    """
    sizes = {cell: _given(config, *cell) for cell in config.cells()} | _decided(config)
    if config.hours is not None and (record := Allotment.read(config.run.budget)):
        sizes |= {cell: size for cell, size in record.shard_sizes().items() if cell in sizes}
    return sizes


def cell_shards(config: Config, cell: Cell, size: int, existing: Iterable[Shard]) -> list[Shard]:
    """The shards that make up a cell: those that exist, and new ones for what is missing.

    Those of the images that are scored exhaustively come first. A race knows its budget, and all
    its trials belong together: of its shards, only those of exactly this budget count. A shard with
    images that the dataset no longer has is of another list.
    """
    extent, step = config.cells()[cell], config.shards.trials
    existing = [s for s in existing if s.image_stop <= config.datasets[cell[1]].images]
    whole = [shard for shard in existing if not shard.race]
    shards = plan_shards(extent.exhaustive, extent.trials, size, step, whole)
    if extent.exhaustive < extent.images:
        raced = [s for s in existing if s.race and s.trials == range(extent.trials)]
        shards += plan_shards(
            extent.images,
            extent.trials,
            _of_a_race(config, cell, size),
            existing=raced,
            first=extent.exhaustive,
            race=True,
        )
    return shards


def _of_a_race(config: Config, cell: Cell, size: int) -> int:
    """Images of a shard of races: as many more as take the passes of an exhaustive one's.

    Where none can be scored exhaustively, the size is that of the races.
    """
    model, dataset = config.models[cell[0]], config.datasets[cell[1]]
    if not model.strategy.replayable:
        return size
    candidates = model.network.classes
    with suppress(GenclassError):  # how many candidates: the config need not say
        candidates = candidate_count(cell[1], dataset)
    return round(size / race_share(model, config.cells()[cell].trials, candidates))


def record(config: Config) -> list[str]:
    """Keep what the wish for minutes led to. Another wish, or no file, decides anew.

    Returns the models that it could decide nothing for, as they are not calibrated.
    """
    if config.target_shard_minutes is None:
        return []
    sizes = _decided(config)
    content = {"wish": _wish(config), "images": nested(_recorded(config) | sizes)}
    write_if_changed(config.run.shard_sizes, json.dumps(content, indent=1) + "\n")
    return sorted({cell[0] for cell in config.cells() if cell not in sizes})


def _given(config: Config, model: str, dataset: str) -> int:
    section = config.models[model]
    images, classes = section.images_per_shard or config.shards.images, section.network.classes
    with suppress(GenclassError):  # how many candidates: the config need not say
        images = images * classes // candidate_count(dataset, config.datasets[dataset])
    return max(1, images)


def _decided(config: Config) -> dict[Cell, int]:
    """Of the config's cells, those that the wish for minutes decides or has decided."""
    if config.target_shard_minutes is None:
        return {}
    recorded = _recorded(config)
    known = {cell: recorded[cell] for cell in config.cells() if cell in recorded}
    missing = [cell for cell in config.cells() if cell not in known]
    return known | (_decide(config, missing) if missing else {})


def _wish(config: Config) -> dict[str, Any]:
    return {"target_shard_minutes": config.target_shard_minutes, **config.shards.model_dump()}


def _recorded(config: Config) -> dict[Cell, int]:
    """What was decided under the same wish."""
    path = config.run.shard_sizes
    if not path.exists():
        return {}
    content = read_json(path, _Record, "record of shard sizes", "delete it and rerun")
    if content.wish != _wish(config):
        return {}
    return flat(content.images)


def _decide(config: Config, cells: list[Cell]) -> dict[Cell, int]:
    """By the calibration, where it knows the model and the config the number of classes."""
    assert config.target_shard_minutes is not None
    path = config.run.calibration
    rates = Rates.read(path).models if path.is_file() else {}
    sizes = {}
    for model, dataset in cells:
        with suppress(GenclassError):
            if model in rates:
                rate = rates[model]
                classes = candidate_count(dataset, config.datasets[dataset])
                trials = config.cells()[model, dataset].trials
                trials = config.shards.trials or trials
                seconds = trials * classes / rate.passes_per_second + rate.seconds_per_image
                wished = 60 * config.target_shard_minutes - rate.seconds_per_job
                sizes[model, dataset] = max(1, round(wished / seconds))
    return sizes
