"""What a config names, what of it is on disk, and how it gets there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from genclass import sources
from genclass.cli.options import MINIATURE, ConfigOption, load, on_disk
from genclass.cli.terminal import TERMINAL, Heading, Listing, Styled, short
from genclass.config import schema
from genclass.errors import GenclassError


def models(config: ConfigOption = MINIATURE) -> None:
    """List the config's models, and whether their checkpoints are on disk."""
    loaded = load(config)
    table = Listing(
        "model",
        Heading("title", wraps=True),
        *("network", "encoder", Heading("trials", number=True)),
        Heading("checkpoints", wraps=True),
    )
    for name, model in loaded.models.items():
        missing = [
            checkpoint
            for checkpoint in model.system.checkpoints.values()
            if not on_disk(loaded, "checkpoints", checkpoint)
        ]
        table.add(
            name,
            model.title,
            f"{model.network.architecture} {model.network.size_name}".strip(),
            model.encoder.architecture if model.encoder else "-",
            str(model.trials),
            Styled(f"missing: {', '.join(missing)}", "yellow")
            if missing
            else Styled("on disk", "green"),
        )
    TERMINAL.table(table)


def datasets(config: ConfigOption = MINIATURE) -> None:
    """List the config's datasets, and what is on disk."""
    loaded = load(config)
    table = Listing(
        "dataset",
        Heading("title", wraps=True),
        Heading("images", number=True),
        Heading("licence", wraps=True),
        Heading("on disk", wraps=True),
    )
    for name, dataset in loaded.datasets.items():
        present = on_disk(loaded, "datasets", name)
        where = Styled(present.path, "green") if present else Styled("missing", "yellow")
        table.add(name, dataset.title, str(dataset.images), dataset.licence, where)
    TERMINAL.table(table)


def fetch(
    config: ConfigOption = MINIATURE,
    place: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="PLACE",
            help="Only show the files of hf://OWNER/NAME, gdrive://FOLDER_ID or file:FOLDER.",
        ),
    ] = None,
) -> None:
    """Download what a config needs, as a run does by itself; or bring back what was deleted."""
    if place is not None:
        table = Listing("file", Heading("size", number=True))
        for file in sources.list_place(place):
            table.add(file.path, "unknown" if file.bytes is None else short(file.bytes, "B"))
        TERMINAL.table(table)
        return
    from genclass.data.fetch import fetch_config

    loaded = load(config)
    if loaded.rehearsal is not None:
        raise GenclassError("a rehearsal needs no downloads: leave `rehearsal` out of the config")
    lock = sources.LockFile.beside(config[0])
    for manifest in fetch_config(loaded, lock, loaded.offline):
        TERMINAL.say(f"{manifest.name}: {manifest.path}")


def print_schema() -> None:
    """Print the JSON schema of config files: genclass schema > config/schema.json."""
    sys.stdout.write(schema())
