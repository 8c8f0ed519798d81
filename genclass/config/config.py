"""The whole of config.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model

from genclass.config.extent import Extent
from genclass.config.model import Model, ModelMachine, model_type
from genclass.config.report import Report
from genclass.config.sources import Checkpoint, Dataset, Download
from genclass.config.strategy import ExhaustiveStrategy
from genclass.families import FAMILIES
from genclass.paths import Run
from genclass.section import (
    ExhaustiveCount,
    Folder,
    ImageCount,
    Name,
    Part,
    PositiveInt,
    Section,
    TrialCount,
)


class Evaluations(Section):
    models: Annotated[list[Name], Field(min_length=1)]
    datasets: Annotated[list[Name], Field(min_length=1)]
    trials: TrialCount | None = None  # None: the model's budget
    images: ImageCount | None = None  # the first of the image list; None: all of it


class Shards(Section):
    images: PositiveInt = 50
    trials: PositiveInt | None = None  # None: the whole budget in one shard


class Training(Section):
    """How the miniature trains one checkpoint; its architecture stands with the model."""

    steps: PositiveInt
    batch: PositiveInt
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    orders: Literal["random", "raster"] = "random"  # any-order networks only


class Miniature(Section):
    """The digits and the small networks, made here instead of downloaded."""

    seed: int = 0
    training: dict[Name, Training]  # by checkpoint


class Machine(Part):
    """What only says how a machine does the work."""

    downloads: Folder = "downloads"
    offline: bool = False  # nothing is downloaded; what is missing is said
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is a GPU
    hours: Annotated[float, Field(gt=0)] | None = None  # of one device, in all; None: everything
    target_shard_minutes: PositiveInt | None = None  # what a job takes, by the calibration
    shards: Shards = Shards()


class Config(Machine):
    """The whole of config.yaml."""

    results: Folder
    plugins: list[str] = []  # Python files with families of the user's
    rehearsal: Annotated[float, Field(gt=0, le=1)] | None = None  # made-up scores for this share
    seed: int = 42
    # Images of each dataset that are scored exhaustively where a model races; "all": none races.
    exhaustive: ExhaustiveCount | Literal["all"] = 0
    checkpoints: dict[Name, Checkpoint]
    datasets: dict[Name, Dataset]
    models: dict[Name, Model]
    evaluations: Annotated[list[Evaluations], Field(min_length=1)]
    report: Report
    miniature: Miniature | None = None

    @property
    def run(self) -> Run:
        """Where everything lies."""
        return Run(self.results)

    def cells(self) -> dict[tuple[str, str], Extent]:
        """Every (model, dataset) that is evaluated, as far as the largest evaluation asks for."""
        extents: dict[tuple[str, str], Extent] = {}
        for evaluation in self.evaluations:
            for model in evaluation.models:
                for dataset in evaluation.datasets:
                    before = extents.get((model, dataset), Extent(0, 0, 0))
                    images = evaluation.images or self.datasets[dataset].images
                    trials = evaluation.trials or self.models[model].trials
                    images, trials = max(before.images, images), max(before.trials, trials)
                    exhaustive = min(images, self._exhaustive(model, dataset))
                    extents[model, dataset] = Extent(images, trials, exhaustive)
        return extents

    def _exhaustive(self, model: str, dataset: str) -> int:
        """How many images of a dataset, at most, a model scores exhaustively."""
        strategy, section = self.models[model].strategy, self.datasets[dataset]
        if not strategy.replayable:
            return 0
        if strategy.kind == "exhaustive" or self.exhaustive == "all":
            return section.images
        return self.exhaustive if section.exhaustive is None else section.exhaustive

    def without_races(self) -> Config:
        """The same config, in which no model races; but for schedules of their own over parts."""
        models = {
            name: model.model_copy(update={"strategy": ExhaustiveStrategy()})
            if model.strategy.replayable
            else model
            for name, model in self.models.items()
        }
        return self.model_copy(update={"models": models})

    def reported(self) -> str:
        """The config as the report shows it, as JSON in its own order: without the machine."""
        machine: dict[str, Any] = dict.fromkeys(Machine.model_fields, True)
        models = {"__all__": set(ModelMachine.model_fields)}
        return self.model_dump_json(exclude=machine | {"models": models})

    def made_here(self, section: Download) -> list[str]:
        """The paths of a checkpoint or dataset that the workflow makes itself, in `results`."""
        paths = [place.removeprefix("file:") for place in section.places]
        return [path for path in paths if path.startswith(f"{self.results}/")]

    def sources(self) -> dict[tuple[str, str], Checkpoint | Dataset]:
        """Every checkpoint and dataset that the evaluations need, by kind and name."""
        needed: dict[tuple[str, str], Checkpoint | Dataset] = {}
        for model, dataset in self.cells():
            for name in self.models[model].system.checkpoints.values():
                needed["checkpoints", name] = self.checkpoints[name]
            needed["datasets", dataset] = self.datasets[dataset]
        return needed


def config_type() -> type[Config]:
    """The type of a config, with the options of every family that is known by now."""
    types = [Annotated[model_type(name, Model), Tag(name)] for name in FAMILIES]
    union: Any = Union[tuple(types)]  # noqa: UP007
    models: Any = dict[Name, Annotated[union, Discriminator(_architecture)]]
    typed: type[Config] = create_model("Config", __base__=Config, models=(models, ...))
    return typed


def _architecture(model: Any) -> str:
    """Of a model, given as a mapping or typed. `parse_config` has seen that it is known."""
    if isinstance(model, Model):
        return model.network.architecture
    try:
        return str(model["network"]["architecture"])
    except (TypeError, KeyError, IndexError):
        return next(iter(FAMILIES))  # whichever: it is said what is missing
