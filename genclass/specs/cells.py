"""Which specs a config asks for, as far as its inputs are on disk. No torch."""

from __future__ import annotations

from pathlib import Path

from genclass.config import Config
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList
from genclass.data.images import border_of
from genclass.data.prepare import candidates
from genclass.errors import GenclassError
from genclass.sources import Manifest
from genclass.specs.spec import specify


def specs_of(config: Config) -> dict[tuple[str, str], str]:
    """The sha256 of the specs that the config asks for now, where their inputs are on disk."""
    results = Path(config.results)
    lists: dict[str, tuple[str, list[int]]] = {}  # sha256 and candidates, by dataset
    for dataset in config.datasets:
        path = results / "images" / f"{dataset}.csv"
        if path.is_file():
            images = ImageList.read(path)
            lists[dataset] = (images.sha256, _candidates(config, dataset, images))
    specs = {}
    for (name, dataset), trials in config.cells().items():
        model = config.models[name].model_copy(update={"trials": trials})
        try:
            network, encoder = (
                Manifest.read(results / "manifests" / "checkpoints" / f"{checkpoint}.json")
                for checkpoint in model.checkpoints
            )
        except GenclassError:
            continue
        if dataset in lists:
            image_list, classes = lists[dataset]
            specs[name, dataset] = specify(
                model=model,
                dataset=dataset,
                seed=config.seed,
                image_list=image_list,
                border=border_of(config.datasets[dataset]),
                candidates=classes,
                network_sha256=network.sha256,
                encoder_sha256=encoder.sha256,
            ).sha256
    return specs


def _candidates(config: Config, dataset: str, images: ImageList) -> list[int]:
    section = config.datasets[dataset]
    classes = candidates(section, images, ClassList.load(section.labels))
    if section.candidates == "present" and section.classes not in (None, len(classes)):
        raise GenclassError(
            f"datasets.{dataset}.classes is {section.classes}, but its images are of "
            f"{len(classes)}: correct it"
        )
    return classes
