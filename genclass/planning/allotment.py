"""What a run of hours was allotted: the images of each cell, as `genclass budget` wrote them down.

Snakemake and its queued jobs only read it. No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from genclass.config import Config, Evaluations
from genclass.errors import GenclassError
from genclass.files import read_json, write_if_changed
from genclass.section import Name, PositiveInt, Section

Cell = tuple[str, str]  # model, dataset
Numbers = dict[Name, dict[Name, PositiveInt]]  # by model and dataset


class Allotment(Section):
    """The file: under how many hours it was decided, and of each cell that gets any

    images: the leading ones that are scored; shards: how many images make a job, decided when a
    cell first gets any, so that a job that is halfway through is found again by its name.
    exhaustive: of each test set, how many are scored exhaustively where models race.
    """

    hours: Annotated[float, Field(gt=0)]
    images: Numbers
    shards: Numbers
    exhaustive: dict[Name, NonNegativeInt] = {}

    def cells(self) -> dict[Cell, int]:
        return flat(self.images)

    def shard_sizes(self) -> dict[Cell, int]:
        return flat(self.shards)

    @classmethod
    def of(
        cls,
        hours: float,
        images: dict[Cell, int],
        shards: dict[Cell, int],
        exhaustive: dict[str, int] | None = None,
    ) -> Allotment:
        return cls(
            hours=hours,
            images=nested(images),
            shards=nested(shards),
            exhaustive=exhaustive or {},
        )

    @classmethod
    def read(cls, path: Path) -> Allotment | None:
        """None: there is none.

        Raises:
            GenclassError: the file is damaged.
        """
        if not path.is_file():
            return None
        return read_json(path, cls, "budget of a run of hours", "delete it and rerun")

    def write(self, path: Path) -> None:
        """Unless it is written there already."""
        write_if_changed(path, self.model_dump_json(indent=1) + "\n")


def allotted(config: Config) -> Config:
    """The config with the images that each cell was allotted; without `hours` as it is.

    Raises:
        GenclassError: nothing was allotted under these hours, or the record is damaged.
    """
    if config.hours is None:
        return config
    path = config.run.budget
    record = Allotment.read(path)
    if record is None or record.hours != config.hours:
        raise GenclassError(
            f"{path}: no images were allotted for {config.hours:g} hours: first: "
            f"genclass budget --hours {config.hours:g} -c CONFIG (make reproduce HOURS=... does it)"
        )
    return narrowed(controlled(config), record.cells())


def controlled(config: Config) -> Config:
    """The config with as few images that are scored exhaustively beside races as were allotted;
    without a run of hours as it is.

    Raises:
        GenclassError: the record is damaged.
    """
    record = Allotment.read(config.run.budget)
    if record is None:
        return config
    datasets = {
        name: section.model_copy(update={"exhaustive": record.exhaustive.get(name, 0)})
        for name, section in config.datasets.items()
    }
    return config.model_copy(update={"datasets": datasets})


def narrowed(config: Config, images: dict[Cell, int]) -> Config:
    """The config with so many images of these cells, and without the others."""
    cells = config.cells()
    evaluations = [
        Evaluations(models=[cell[0]], datasets=[cell[1]], trials=cells[cell].trials, images=number)
        for cell, number in images.items()
        if cell in cells
    ]
    return config.model_copy(update={"evaluations": evaluations})


def flat(numbers: Numbers) -> dict[Cell, int]:
    """By cell."""
    return {(m, d): number for m, found in numbers.items() for d, number in found.items()}


def nested(numbers: dict[Cell, int]) -> Numbers:
    """By model and dataset, as JSON has it."""
    found: Numbers = {}
    for (model, dataset), number in sorted(numbers.items()):
        found.setdefault(model, {})[dataset] = number
    return found
