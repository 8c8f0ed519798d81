"""The spec of a cell, from what the config says and what is on disk: the one place that knows."""

from __future__ import annotations

import json
from pathlib import Path

from genclass.config import Config, parse_config
from genclass.data.image_list import ImageList
from genclass.files import reading
from genclass.sources import Manifest
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import Spec, specify


def of_another_config(config: Config) -> list[Path]:
    """The files of the results that are made from the config, and not from this one, or not there.

    Snakemake sees such a change by its own records, which a copied folder does not bring along; and
    it misses no file whose successors are there. A cell that was never measured, as in a run of
    hours, lacks nothing.

    Raises:
        GenclassError: see `specs_of`; or a spec on disk is none.
    """
    run = config.run
    recorded, asked = run.config, json.loads(config.reported())
    found = [] if recorded.is_file() else [recorded]
    if not found:
        with reading(recorded, "resolved config", "delete it and rerun"):
            text = recorded.read_text(encoding="utf-8")
        try:
            same = json.loads(text) == json.loads(parse_config(asked, "").model_dump_json())
        except ValueError:
            same = False
        found += [] if same else [recorded]
    for cell, spec in specs_of(config).items():
        path = run.spec(*cell)
        if path.is_file():
            same = Spec.read(path).sha256 == spec.sha256
        else:
            same = not run.metrics(*cell).is_file()
        found += [] if same else [path]
    return found


def specs_of(config: Config) -> dict[tuple[str, str], Spec]:
    """The specs that the config asks for now, of the cells whose inputs are on disk.

    Raises:
        GenclassError: a manifest or image list is damaged; see `scored_dataset` and `specify`.
    """
    run = config.run
    datasets = {}
    for name in dict.fromkeys(dataset for _, dataset in config.cells()):
        if (path := run.image_list(name)).is_file():
            section = config.datasets[name]
            datasets[name] = scored_dataset(name, section, ImageList.read(path), section.classes)
    specs = {}
    for (name, dataset), extent in config.cells().items():
        model = config.models[name]
        paths = {
            part: run.manifest("checkpoints", checkpoint)
            for part, checkpoint in model.system.checkpoints.items()
        }
        if dataset in datasets and all(path.exists() for path in paths.values()):  # fetched
            files = {part: Manifest.read(path).sha256 for part, path in paths.items()}
            specs[name, dataset] = specify(
                model, datasets[dataset], files, config.seed, extent.trials
            )
    return specs
