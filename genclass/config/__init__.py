"""config.yaml as typed objects: everything a user may set, checked before anything runs.

Snakemake parses this module at every start, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from genclass.config.section import (
    DIFFUSION_STEPS,
    PATTERNS,
    Aggregation,
    Dtype,
    Folder,
    Layout,
    Md5,
    Name,
    PositiveInt,
    Section,
    Sha256,
)
from genclass.config.strategy import (
    ExhaustiveStrategy,
    FixedStrategy,
    NoiseOfTrials,
    RacingStrategy,
    Strategy,
)
from genclass.errors import GenclassError


class Download(Section):
    """A file or folder from outside; the first place that gives it with the right checksum wins."""

    places: Annotated[list[str], Field(min_length=1)]
    sha256: Sha256 | None = None  # None: that of the first download is recorded and held
    md5: Md5 | None = None  # for sources that publish only this
    bytes: PositiveInt | None = None
    about_bytes: PositiveInt | None = None  # for the plan, where `bytes` are not known
    licence: str


class Checkpoint(Download):
    """The weights of one network (`.pt`, `.bin`, `.pth` or `.safetensors`)."""


class Dataset(Download):
    """A test set. `images` is how many are evaluated, after the subset rule; it is checked."""

    title: str
    layout: Layout = "image_folder"
    labels: str = "imagenet"  # a class list of the package, or the path of a CSV file
    candidates: Literal["all", "present"] = "all"  # the whole class list, or the set's own classes
    classes: PositiveInt | None = None  # how many candidates, where they are `present`
    images_per_class: PositiveInt | None = None  # the first n in sorted order; None: all
    images: PositiveInt
    total_images: PositiveInt | None = None  # before the subset rule; None: not checked
    corruption: str | None = None  # imagenet_c: the folder, e.g. gaussian_noise
    severity: Annotated[int, Field(ge=1, le=5)] | None = None
    devkit: Download | None = None  # imagenet_val from the official tar: the labels
    password: str | None = None  # of a locked archive, where its authors publish one
    thumbnails: bool = True  # may the report show its images?

    @property
    def within(self) -> str:
        """The one folder in it that matters; empty: all do."""
        return f"{self.corruption}/{self.severity}" if self.corruption else ""


class Size(Section):
    layers: PositiveInt
    heads: PositiveInt
    width: PositiveInt


class RandARNetwork(Section):
    architecture: Literal["randar"]
    checkpoint: Name
    size: Literal["B", "L", "XL"] | Size
    vocabulary: PositiveInt = 16384
    grid: PositiveInt = 16  # the image is grid x grid tokens
    classes: PositiveInt = 1000


class TransformerNetwork(Section):
    """What DiT, SiT and SiT + REPA share."""

    checkpoint: Name
    size: Literal["S", "B", "L", "XL"] | Size
    patch: PositiveInt = 2
    latent_size: PositiveInt = 32
    channels: PositiveInt = 4
    classes: PositiveInt = 1000


class DiTNetwork(TransformerNetwork):
    architecture: Literal["dit"]


class SiTNetwork(TransformerNetwork):
    architecture: Literal["sit"]


class SiTREPANetwork(TransformerNetwork):
    architecture: Literal["sit_repa"]
    aligned_to: list[PositiveInt] = [768]  # widths of the encoders it was aligned to
    projector_width: PositiveInt = 2048


Network = Annotated[
    RandARNetwork | DiTNetwork | SiTNetwork | SiTREPANetwork, Field(discriminator="architecture")
]


class LlamaGenVQEncoder(Section):
    architecture: Literal["llamagen_vq"]
    checkpoint: Name
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 1, 2, 2, 4]
    residual_blocks: PositiveInt = 2
    latent: PositiveInt = 256
    codebook: PositiveInt = 16384
    code_width: PositiveInt = 8


class MaskGITVQEncoder(Section):
    architecture: Literal["maskgit_vq"]
    checkpoint: Name


class AutoencoderKLEncoder(Section):
    architecture: Literal["autoencoder_kl"]
    checkpoint: Name
    channels: list[PositiveInt] = [128, 256, 512, 512]  # one level each, the last keeps its size
    residual_blocks: PositiveInt = 2
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 32
    scaling: float = 0.18215


Encoder = Annotated[
    LlamaGenVQEncoder | MaskGITVQEncoder | AutoencoderKLEncoder,
    Field(discriminator="architecture"),
]


class AnyOrderClassifier(Section):
    """log p(image | class) of an any-order AR model; a trial is one order."""

    method: Literal["any_order"]
    orders: Literal["random", "raster", "constant"] = "random"
    latent_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmentation: Literal["center_crop", "random_crop"] = "center_crop"
    dtype: Dtype = "float32"

    @property
    def trial_limit(self) -> int | None:
        """How many different trials there are; None where every trial is a new draw."""
        deterministic = self.latent_noise == 0 and self.augmentation == "center_crop"
        return 1 if self.orders != "random" and deterministic else None


class TimestepClassifier(Section):
    """What diffusion and flow classifiers share; a trial is one timestep."""

    step_size: Annotated[int, Field(ge=1, le=DIFFUSION_STEPS)] = 4
    noise: Literal["shared", "per_trial"] = "shared"
    latent: Literal["sample", "mean"] = "sample"
    weighting: Literal["eps", "velocity", "x0"] = "eps"
    dtype: Dtype = "float32"

    @property
    def trial_limit(self) -> int:
        """The size of the official grid s//2, s//2 + s, ... < 1000."""
        return len(range(self.step_size // 2, DIFFUSION_STEPS, self.step_size))


class DiffusionClassifier(TimestepClassifier):
    method: Literal["diffusion"]


class FlowClassifier(TimestepClassifier):
    method: Literal["flow"]
    legacy_zero_time: bool = False  # the official SiT script's network always sees t = 0


Classifier = Annotated[
    AnyOrderClassifier | DiffusionClassifier | FlowClassifier, Field(discriminator="method")
]


METHOD_OF = {"randar": "any_order", "dit": "diffusion", "sit": "flow", "sit_repa": "flow"}
ENCODERS_OF = {
    "any_order": ("llamagen_vq", "maskgit_vq"),
    "diffusion": ("autoencoder_kl",),
    "flow": ("autoencoder_kl",),
}


class Model(Section):
    """One row of the tables: a network and how it scores classes."""

    title: str
    group: str = ""  # rows of one group stand together, e.g. L and XL
    network: Network
    encoder: Encoder
    classifier: Classifier
    strategy: Strategy = ExhaustiveStrategy()
    image_size: PositiveInt = 256  # pixels
    trials: PositiveInt  # the budget
    images_per_shard: PositiveInt | None = None  # None: shards.images
    class_batch: PositiveInt = 125  # classes scored at once; never changes a number

    @property
    def races(self) -> bool:
        """Are classes left out on the way?"""
        return self.strategy.kind != "exhaustive"

    @property
    def checkpoints(self) -> tuple[str, str]:
        """The names of the network's and the encoder's."""
        return self.network.checkpoint, self.encoder.checkpoint


class Evaluation(Section):
    models: Annotated[list[Name], Field(min_length=1)]
    datasets: Annotated[list[Name], Field(min_length=1)]
    trials: PositiveInt | None = None  # None: the model's budget


class Shards(Section):
    images: PositiveInt = 50
    trials: PositiveInt | None = None  # None: the whole budget in one shard


class Row(Section):
    model: Name
    title: str | None = None
    trials: PositiveInt | None = None  # None: the whole budget
    aggregation: Aggregation = "mean_log_p"
    paper: str | None = None  # the row of reports/paper.yaml that it stands beside


class AccuracyTable(Section):
    """Rows are models at a budget, columns are datasets."""

    kind: Literal["accuracy"]
    title: str
    caption: str = ""
    rows: Annotated[list[Row], Field(min_length=1)]
    columns: Annotated[list[Name], Field(min_length=1)]
    mean: bool = False  # a last column: the mean over the datasets
    paper_rows: list[str] = []  # rows of reports/paper.yaml that nothing here is measured for


class AggregationTable(Section):
    """Rows are the aggregations over trials, columns are budgets."""

    kind: Literal["aggregation"]
    title: str
    caption: str = ""
    model: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    budgets: Annotated[list[PositiveInt], Field(min_length=1)]
    paper: str | None = None  # the row of reports/paper.yaml that it stands beside


Table = Annotated[AccuracyTable | AggregationTable, Field(discriminator="kind")]


class Gallery(Section):
    """Images that one of two models classifies right and the other wrong, with their evidence."""

    models: Annotated[list[Name], Field(min_length=2, max_length=2)]
    datasets: Annotated[list[Name], Field(min_length=1)]
    images: Annotated[int, Field(ge=1, le=50)] = 4  # of each dataset, right by the one; and again


class Report(Section):
    title: str
    tables: dict[Name, Table]  # the first is usually `main`
    gallery: list[Gallery] = []

    @property
    def explained(self) -> dict[tuple[Name, Name, Name], int]:
        """(one model, other model, dataset) of the gallery -> how many images each way."""
        return {
            (section.models[0], section.models[1], dataset): section.images
            for section in self.gallery
            for dataset in section.datasets
        }

    @field_validator("tables", mode="before")
    @classmethod
    def _without_null(cls, tables: Any) -> Any:
        """A second config file leaves a table out by setting it to null."""
        if not isinstance(tables, Mapping):
            return tables
        return {name: table for name, table in tables.items() if table is not None}


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


class Config(Section):
    """The whole of config.yaml."""

    results: Folder
    downloads: Folder = "downloads"
    offline: bool = False  # nothing is downloaded; what is missing is said
    rehearsal: Annotated[float, Field(gt=0, le=1)] | None = None  # made-up scores for this share
    seed: int = 42
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is a GPU
    target_shard_minutes: PositiveInt | None = None  # what a job takes, by the calibration
    shards: Shards = Shards()
    checkpoints: dict[Name, Checkpoint]
    datasets: dict[Name, Dataset]
    models: dict[Name, Model]
    evaluations: Annotated[list[Evaluation], Field(min_length=1)]
    report: Report
    miniature: Miniature | None = None

    def cells(self) -> dict[tuple[str, str], int]:
        """Every (model, dataset) that is evaluated, with its budget: the largest asked for."""
        budgets: dict[tuple[str, str], int] = {}
        for evaluation in self.evaluations:
            for model in evaluation.models:
                for dataset in evaluation.datasets:
                    trials = evaluation.trials or self.models[model].trials
                    budgets[model, dataset] = max(trials, budgets.get((model, dataset), 0))
        return budgets

    def made_here(self, section: Download) -> list[str]:
        """The paths of a checkpoint or dataset that the workflow makes itself, in `results`."""
        paths = [place.removeprefix("file:") for place in section.places]
        return [path for path in paths if path.startswith(f"{self.results}/")]

    def sources(self) -> dict[tuple[str, str], Checkpoint | Dataset]:
        """Every checkpoint and dataset that the evaluations need, by kind and name."""
        needed: dict[tuple[str, str], Checkpoint | Dataset] = {}
        for model, dataset in self.cells():
            for name in self.models[model].checkpoints:
                needed["checkpoints", name] = self.checkpoints[name]
            needed["datasets", dataset] = self.datasets[dataset]
        return needed


def parse_config(raw: Mapping[str, Any], origin: str) -> Config:
    """Check a loaded config. `origin` (its file) begins every message.

    Raises:
        GenclassError: one line for the first thing that is wrong.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise GenclassError(f"{origin}: {_explain(error.errors(), raw)}") from None
    _check_references(config, origin)
    return config


def load_config(*paths: str | Path) -> Config:
    """Read and check a config file. Further files override single keys, as Snakemake's do.

    Raises:
        GenclassError: a file is missing, no YAML, or holds something wrong.
    """
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _overridden(raw, read_config(path))
    return parse_config(raw, " + ".join(map(str, paths)))


def read_config(path: str | Path) -> dict[str, Any]:
    """One config file, not checked yet: a mapping, in which no key stands twice.

    Raises:
        GenclassError: the file is missing or no such YAML.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except OSError as error:
        raise GenclassError(f"{path}: cannot read the config: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        raise GenclassError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except GenclassError as error:
        raise GenclassError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise GenclassError(f"{path}: a config is a mapping with keys such as models and datasets")
    return raw


def schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown word."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known) or 'none'}"


class _StrictLoader(yaml.SafeLoader):
    """Of a key that stands twice, YAML would silently take the last: say so instead."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # before `<<` brings in keys of others
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key in keys:
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                raise GenclassError(
                    f"line {key.start_mark.line + 1}: '{key.value}' stands in line "
                    f"{first.start_mark.line + 1} already: rename or remove one"
                )
        return node


def _overridden(raw: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    merged = dict(raw)
    for key, value in other.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _overridden(old, value)
        merged[key] = value
    return merged


def _explain(errors: list[Any], raw: Mapping[str, Any]) -> str:
    """One line for a pydantic failure: the key, what is wrong, what to do."""
    error = max(
        errors, key=lambda e: len(e["loc"])
    )  # of a union's branches, the one that got furthest
    location, section = _locate(error["loc"], raw)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(location[-1], section.model_fields) if section else "remove it"
        return f"unknown key '{key}': {hint}"
    if error["type"] == "missing":
        return f"'{key}' is missing: add it"
    if error["type"] == "union_tag_invalid":
        tag, expected = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "")
        field = error["ctx"]["discriminator"].strip("'")
        return f"'{key}.{field}' is '{tag}': {did_you_mean(tag, expected.split(', '))}"
    if error["type"] == "union_tag_not_found":
        return f"'{key}' needs the key {error['ctx']['discriminator']}"
    if error["type"] == "string_pattern_mismatch":
        rule = dict(PATTERNS.values())[error["ctx"]["pattern"]]
        return f"'{key}' is '{error['input']}': {rule}"
    shown = json.dumps(error["input"], default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"'{key}' is {shown}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _locate(parts: Iterable[str | int], raw: Any) -> tuple[list[str], type[Section] | None]:
    """The user's key behind a pydantic location, and the section that the key stands in.

    Pydantic puts the branches of unions (tags, class names) between the keys; they are dropped.
    """
    parts = list(parts)
    location: list[str] = []
    inside: list[type[Section]] = [Config]  # the sections that the current mapping may be
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        is_key = (isinstance(raw, dict) and part in raw) or isinstance(part, int)
        missing = last and isinstance(raw, dict)
        if not (is_key or missing):
            inside = [s for s in inside if part in (*_tags(s), s.__name__)] or inside
            continue
        location.append(str(part))
        if last:
            return location, inside[0] if len(inside) == 1 else None
        raw = raw[part]
        fields = [s.model_fields[part] for s in inside if part in s.model_fields]
        inside = [s for f in fields for s in _sections_in(f.annotation)] or inside
    return location, None


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections_in(part)]


def _tags(section: type[Section]) -> tuple[str, ...]:
    """The values of a section's discriminator."""
    fields = (section.model_fields.get(name) for name in ("architecture", "method", "kind"))
    return next((getattr(f.annotation, "__args__", ()) for f in fields if f), ())


def _check_references(config: Config, origin: str) -> None:
    """Places, names that must be defined elsewhere, and values that must fit together."""
    from genclass.sources.places import parse_place  # takes its time; scripts need sections only

    def check_places(key: str, download: Download) -> None:
        for place in download.places:
            try:
                parse_place(place)
            except GenclassError as error:
                raise GenclassError(f"{origin}: {key}.places: {error}") from None

    def known(name: str, names: Iterable[str], kind: str, key: str) -> None:
        if name not in set(names):
            raise GenclassError(
                f"{origin}: {key}: unknown {kind} '{name}': {did_you_mean(name, names)}"
            )

    for name, checkpoint in config.checkpoints.items():
        check_places(f"checkpoints.{name}", checkpoint)
    for name, test_set in config.datasets.items():
        check_places(f"datasets.{name}", test_set)
        if (test_set.layout == "imagenet_c") != bool(test_set.corruption and test_set.severity):
            raise GenclassError(
                f"{origin}: datasets.{name}: `corruption:` and `severity:` go with the layout "
                f"imagenet_c, and it needs both: the layout is '{test_set.layout}'"
            )
        if test_set.devkit:
            check_places(f"datasets.{name}.devkit", test_set.devkit)
    for name, model in config.models.items():
        key = f"models.{name}"
        known(model.network.checkpoint, config.checkpoints, "checkpoint", f"{key}.network")
        known(model.encoder.checkpoint, config.checkpoints, "checkpoint", f"{key}.encoder")
        method = METHOD_OF[model.network.architecture]
        if model.classifier.method != method:
            raise GenclassError(
                f"{origin}: {key}.classifier.method is '{model.classifier.method}': "
                f"a {model.network.architecture} network is scored by '{method}'"
            )
        if model.encoder.architecture not in ENCODERS_OF[method]:
            raise GenclassError(
                f"{origin}: {key}.encoder.architecture is '{model.encoder.architecture}': "
                f"'{method}' needs {' or '.join(ENCODERS_OF[method])}"
            )
    for index, evaluation in enumerate(config.evaluations):
        key = f"evaluations.{index}"
        for name in evaluation.models:
            known(name, config.models, "model", f"{key}.models")
        for name in evaluation.datasets:
            known(name, config.datasets, "dataset", f"{key}.datasets")
    for (name, dataset), trials in config.cells().items():
        limit = config.models[name].classifier.trial_limit
        if limit is not None and trials > limit:
            raise GenclassError(
                f"{origin}: models.{name}: {trials} trials on {dataset}, but its classifier has "
                f"only {limit} different: lower trials"
            )
    for name, table in config.report.tables.items():
        key = f"report.tables.{name}"
        rows = [r.model for r in table.rows] if table.kind == "accuracy" else [table.model]
        columns = table.columns if table.kind == "accuracy" else table.datasets
        for model_name in rows:
            known(model_name, config.models, "model", key)
        for dataset in columns:
            known(dataset, config.datasets, "dataset", key)
    explained: set[tuple[str, str, str]] = set()
    for index, gallery in enumerate(config.report.gallery):
        key = f"report.gallery.{index}"
        one, other = gallery.models
        for name in gallery.models:
            known(name, config.models, "model", f"{key}.models")
        if one == other:
            raise GenclassError(f"{origin}: {key}.models: '{one}' twice: name two models")
        for name in gallery.datasets:
            known(name, config.datasets, "dataset", f"{key}.datasets")
            if (one, other, name) in explained:
                raise GenclassError(
                    f"{origin}: {key}: {one} and {other} on {name} stand there twice: keep one"
                )
            explained.add((one, other, name))
    for name in config.miniature.training if config.miniature else ():
        known(name, config.checkpoints, "checkpoint", "miniature.training")
        if config.rehearsal is None and not config.made_here(config.checkpoints[name]):
            raise GenclassError(
                f"{origin}: checkpoints.{name}.places: the workflow makes this file, in `results`: "
                f"write file:{config.results}/... there, and in the datasets that it draws"
            )
