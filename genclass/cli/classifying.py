"""Single images, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from genclass.cli.options import MINIATURE, ConfigOption, DeviceOption, load
from genclass.cli.terminal import TERMINAL, Heading, Listing
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
    from genclass.gallery.classify import classify_files, save_evidence

    stems = map_stems(images)
    targets = [output / f"{stem}.{model}.png" for stem in stems]
    check_writable(targets[0])
    if any(stem != image.stem for stem, image in zip(stems, images, strict=True)):
        TERMINAL.say("some images have the same name: the names of their maps say which is which")
    results = classify_files(load(config), model, images, trials, device)
    for path, target, result in zip(images, targets, results, strict=True):
        table = Listing("class", Heading("posterior", number=True))
        for name, posterior in zip(result.names, result.posterior, strict=True):
            table.add(name, f"{posterior:.4f}")
        TERMINAL.say(str(path), "bold")
        TERMINAL.table(table)
        if result.evidence is None:
            TERMINAL.say("no evidence map: this model cannot say where it lies")
        else:
            with writing(target):
                save_evidence(result, target)
            best, second = result.names[:2]
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
