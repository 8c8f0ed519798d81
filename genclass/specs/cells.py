"""The spec of a cell, from what the config says and what is on disk: the one place that knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from genclass.config import Config, ScoredModel, Selection, parse_config
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList
from genclass.data.images import border_of
from genclass.data.prepare import candidates
from genclass.errors import GenclassError
from genclass.files import reading
from genclass.sources import Manifest
from genclass.specs.spec import Spec, specify


def spec_of(
    model: ScoredModel,
    dataset: str,
    selection: Selection,
    images: ImageList,
    files: Mapping[str, Manifest],
    seed: int,
    trials: int,
    classes: int | None,
) -> Spec:
    """The spec of a cell.

    files: what each checkpoint is for -> its manifest; classes: how many candidates the config
    says that there are, where they are those present.

    Raises:
        GenclassError: the candidates are others than the config says, or no classes of the
            network.
    """
    found = candidates(selection, images, ClassList.load(selection.labels))
    if selection.candidates == "present" and classes not in (None, len(found)):
        raise GenclassError(
            f"datasets.{dataset}.classes is {classes}, but its images are of {len(found)}: "
            f"correct it"
        )
    return specify(
        model=model,
        dataset=dataset,
        seed=seed,
        image_list=images.sha256,
        border=border_of(selection),
        candidates=found,
        files={part: manifest.sha256 for part, manifest in files.items()},
        trials=trials,
    )


def of_another_config(config: Config) -> list[Path]:
    """The files of the results, made from the config alone, that another config was asked for.

    Snakemake sees such a change by its own records, which a copied folder does not bring along.

    Raises:
        GenclassError: see `specs_of`; or a spec on disk is none.
    """
    run = config.run
    recorded, asked = run.config, json.loads(config.reported())
    found = []
    if recorded.is_file():
        with reading(recorded, "resolved config", "delete it and rerun"):
            text = recorded.read_text(encoding="utf-8")
        try:
            same = json.loads(text) == json.loads(parse_config(asked, "").model_dump_json())
        except ValueError:
            same = False
        found += [] if same else [recorded]
    for cell, spec in specs_of(config).items():
        path = run.spec(*cell)
        if path.is_file() and Spec.read(path).sha256 != spec.sha256:
            found.append(path)
    return found


def specs_of(config: Config) -> dict[tuple[str, str], Spec]:
    """The specs that the config asks for now, of the cells whose inputs are on disk.

    Raises:
        GenclassError: a manifest or image list is damaged; see `spec_of`.
    """
    run = config.run
    lists = {
        dataset: ImageList.read(run.image_list(dataset))
        for dataset in dict.fromkeys(dataset for _, dataset in config.cells())
        if run.image_list(dataset).is_file()
    }
    specs = {}
    for (name, dataset), extent in config.cells().items():
        model, section = config.models[name], config.datasets[dataset]
        paths = {
            part: run.manifest("checkpoints", checkpoint)
            for part, checkpoint in model.system.checkpoints.items()
        }
        if dataset in lists and all(path.exists() for path in paths.values()):  # fetched
            files = {part: Manifest.read(path) for part, path in paths.items()}
            specs[name, dataset] = spec_of(
                model,
                dataset,
                section,
                lists[dataset],
                files,
                config.seed,
                extent.trials,
                section.classes,
            )
    return specs
