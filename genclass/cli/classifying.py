"""Single images, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from genclass.cli.options import MINIATURE, ConfigOption, DeviceOption, checkpoint_path, load
from genclass.cli.terminal import TERMINAL, Column, Table
from genclass.config import did_you_mean
from genclass.errors import GenclassError
from genclass.files import check_writable, writing


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the config.")],
    config: ConfigOption = MINIATURE,
    trials: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the evidence maps.")] = Path("evidence"),
    device: DeviceOption = "auto",
) -> None:
    """Print the five best classes of each image, and save a map of where the evidence lies."""
    # Imported here: the other commands answer without waiting for torch.
    from genclass.data.class_lists import ClassList
    from genclass.data.images import decode
    from genclass.gallery.classify import classify as classify_image
    from genclass.gallery.classify import save_evidence
    from genclass.jobs.worker import choose_device
    from genclass.scorers.build import build_classifier

    loaded = load(config)
    if model not in loaded.models:
        raise GenclassError(f"unknown model '{model}': {did_you_mean(model, loaded.models)}")
    section = loaded.models[model]
    budget = trials or section.trials
    limit = section.classifier.trial_limit
    if limit is not None and budget > limit:
        raise GenclassError(f"--trials {budget}: {model} has {limit} different trials")
    labels = next((loaded.datasets[d].labels for m, d in loaded.cells() if m == model), None)
    if labels is None:
        raise GenclassError(f"model '{model}' is in no evaluation of the config: add it to one")
    names = {entry.class_id: entry.name for entry in ClassList.load(labels).entries}
    decoded = [decode(image) for image in images]  # a wrong path is said before the network loads
    network, encoder = (checkpoint_path(loaded, name, config) for name in section.checkpoints)
    stems = map_stems(images)
    targets = [output / f"{stem}.{model}.png" for stem in stems]
    check_writable(targets[0])
    if any(stem != image.stem for stem, image in zip(stems, images, strict=True)):
        TERMINAL.say("some images have the same name: the names of their maps say which is which")
    classifier = build_classifier(
        section.network,
        section.encoder,
        section.classifier,
        section.image_size,
        network,
        encoder,
        choose_device(device),
    )
    for path, image, target in zip(images, decoded, targets, strict=True):
        result = classify_image(classifier, image, path.name, section, loaded.seed, budget, best=5)
        table = Table("class", Column("posterior", number=True))
        for class_id, posterior in zip(result.classes, result.posterior, strict=True):
            table.add(names.get(int(class_id), str(class_id)), f"{posterior:.4f}")
        TERMINAL.say(str(path), "bold")
        TERMINAL.table(table)
        with writing(target):
            save_evidence(result, target)
        best, second = (names.get(int(c), str(c)) for c in result.classes[:2])
        TERMINAL.say(f"evidence for {best} (orange) against {second} (blue): {target}")
        TERMINAL.say()


def map_stems(images: Sequence[Path]) -> list[str]:
    """What the maps of the images are called: each by its stem, so that none overwrites another.

    Where several have a stem in common, by folder and whole name (a-1.png); a number tells apart
    what is still the same. File systems that ignore case are thought of.
    """
    shared = Counter(path.stem.casefold() for path in images)
    taken: set[str] = set()
    stems = []
    for path in images:
        alone = shared[path.stem.casefold()] == 1
        name = path.stem if alone else f"{path.absolute().parent.name}-{path.name}"
        stem, number = name, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{name}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
