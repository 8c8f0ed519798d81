"""What several commands take, and how they read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from genclass.config import Config, load_config
from genclass.paths import Kind
from genclass.sources import Manifest

ConfigOption = Annotated[
    list[Path],
    typer.Option(
        "--config",
        "-c",
        help="A config (config.yaml is the paper); given again: one that overrides its keys.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where there is a GPU.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Everything, for programs.")]
MINIATURE = [Path("config/miniature.yaml")]


def load(paths: list[Path], rehearsal: float | None = None) -> Config:
    """The config as the workflow runs it: a rehearsal has a folder of its own.

    rehearsal: the share of its size, where the config itself says nothing of one.
    """
    from genclass.jobs.rehearsal import rehearsed  # takes its time

    config = load_config(*paths)
    return rehearsed(config.model_copy(update={"rehearsal": config.rehearsal or rehearsal}))


def on_disk(config: Config, kind: Kind, name: str) -> Manifest | None:
    """The manifest of something that was fetched and still lies where it says."""
    path = config.run.manifest(kind, name)
    if not path.is_file():
        return None
    manifest = Manifest.read(path)
    return manifest if Path(manifest.path).exists() else None
