"""What must fit together in a config: places, names that are defined elsewhere, budgets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from genclass.config.config import Config
from genclass.config.model import Model
from genclass.config.sources import Download
from genclass.errors import GenclassError
from genclass.text import did_you_mean

_NAME_BYTES = 255  # of a file or folder, on every usual file system
# What the report makes itself; those of reports/claims.yaml it refuses when it renders.
_RESERVED = re.compile(
    r"claims(-\d+)?|efficiency(-races)?|calibration|race-(agreement|savings)|mistakes|gallery"
)


def check(config: Config, origin: str) -> None:
    """Places, names that must be defined elsewhere, and values that must fit together."""
    from genclass.sources.places import parse_place  # takes its time; scripts need sections only

    def check_places(key: str, download: Download) -> None:
        for place in download.places:
            try:
                parse_place(place)
            except GenclassError as error:
                raise GenclassError(f"{origin}: {key}.places: {error}") from None

    paths = {"results": config.results, "downloads": config.downloads}
    paths |= {f"datasets.{name}.labels": entry.labels for name, entry in config.datasets.items()}
    for key, path in paths.items():
        if any(len(part.encode()) > _NAME_BYTES for part in path.split("/")):
            raise GenclassError(
                f"{origin}: {key}: '{path[:40]}...' has a name of more than {_NAME_BYTES} bytes, "
                f"which no file system takes: shorten it"
            )

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
        for part, checkpoint_name in model.system.checkpoints.items():
            section = "encoder" if part.startswith("encoder") else "network"
            known(checkpoint_name, config.checkpoints, "checkpoint", f"{key}.{section}")
        try:
            _ = model.system.role
        except GenclassError as error:
            raise GenclassError(f"{origin}: {key}: {error}") from None
        _check_strategy(model, f"{origin}: {key}.strategy")
    for index, evaluation in enumerate(config.evaluations):
        key = f"evaluations.{index}"
        for name in evaluation.models:
            known(name, config.models, "model", f"{key}.models")
        for name in evaluation.datasets:
            known(name, config.datasets, "dataset", f"{key}.datasets")
    for (name, dataset), extent in config.cells().items():
        trial = config.models[name].system.trial
        if trial.limit is not None and extent.trials > trial.limit:
            raise GenclassError(
                f"{origin}: models.{name}: {trial.counted(extent.trials)} on {dataset}, but it "
                f"has only {trial.limit} different: lower trials"
            )
        if extent.images > (images := config.datasets[dataset].images):
            raise GenclassError(
                f"{origin}: evaluations: {extent.images} images of {dataset}, which has only "
                f"{images}: lower images"
            )
    for name, table in config.report.tables.items():
        key = f"report.tables.{name}"
        if _RESERVED.fullmatch(name):
            raise GenclassError(
                f"{origin}: {key}: the report makes a table of that name itself: choose another"
            )
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


def _check_strategy(model: Model, key: str) -> None:
    """Races need trials, and looks at parts of them a family that has parts."""
    if model.races and not model.system.work.score:
        raise GenclassError(
            f"{key}: {model.network.architecture} scores all classes in one pass: there is nothing "
            f"to race for: leave strategy out"
        )
    looked, parts = model.strategy.scores_of_parts(1), len(model.system.work.parts)
    if looked and max(looked) > parts:
        raise GenclassError(
            f"{key}.parts: one {model.system.trial.noun} of {model.network.architecture} has "
            f"{f'only {parts} parts: take fewer' if parts else 'no parts: use rounds'}"
        )
