"""The gallery: images that one of two models has right and the other wrong, as explained before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genclass.errors import GenclassError
from genclass.gallery import bundle as bundles
from genclass.gallery.bundle import Bundle
from genclass.reporting.results import Results, damaged


@dataclass(frozen=True)
class ShownAnswer:
    """What one model said of an image."""

    model: str  # its title
    right: bool
    predicted: str  # the class's name
    posterior: float | None  # None: of a race
    map: str | None  # a data URI; None: its scorer has no evidence


@dataclass(frozen=True)
class ShownImage:
    image_id: str
    label: str  # the class's name
    mistaken_for: str
    thumbnail: str | None  # a data URI; None: the image may not be shown
    answers: tuple[ShownAnswer, ShownAnswer]


@dataclass(frozen=True)
class Pair:
    """Two models (titles) on one dataset. `ways`: right by the first alone, by the second alone."""

    key: str  # the dataset's name
    dataset: str  # its title
    models: tuple[str, str]
    missing: str = ""  # why there are no entries
    images: int = 0
    alone: tuple[int, int] = (0, 0)
    ways: tuple[tuple[ShownImage, ...], tuple[ShownImage, ...]] = ((), ())
    raw: dict[str, Any] | None = None  # without pictures, for JSON

    def as_json(self) -> dict[str, Any]:
        titles = {"titles": list(self.models), "dataset_title": self.dataset}
        return titles | (self.raw or {"missing": self.missing})


def build_gallery(results: Results) -> list[Pair]:
    """What `report.gallery` of the config names, in its order; what is not there says why."""
    return [_read(results, *key) for key in results.config.report.explained]


def _read(results: Results, one: str, other: str, dataset: str) -> Pair:
    titles = (results.model_title(one), results.model_title(other))

    def missing(reason: str) -> Pair:
        return Pair(dataset, results.dataset_title(dataset), titles, reason)

    if results.config.rehearsal is not None:
        return missing("a rehearsal runs no networks")
    for model, title in zip((one, other), titles, strict=True):
        evaluation = results.evaluation(model, dataset)
        if evaluation.missing:
            return missing(f"{title}: {evaluation.missing}")
    path = results.files.explained(one, other, dataset)
    if not path.is_file():
        return missing("not explained yet: run the workflow")
    try:
        bundle = Bundle.read(path)
    except GenclassError as error:
        return missing(damaged(path, error))
    if set(bundle.models) != {one, other} or bundle.dataset != dataset:
        return missing(f"explains something else: delete {path} and rerun")
    for model in (one, other):
        metrics = results.evaluation(model, dataset).metrics
        if metrics and bundle.specs[model] != metrics["spec"]:
            return missing("explained under an older spec: rerun")
    ways = [
        tuple(
            _entry(results, dataset, (one, other), entry)
            for entry in bundle.entries
            if entry.right == model
        )
        for model in (one, other)
    ]
    return Pair(
        dataset,
        results.dataset_title(dataset),
        titles,
        images=bundle.images,
        alone=(bundle.right_alone[one], bundle.right_alone[other]),
        ways=(ways[0], ways[1]),
        raw=_without_pictures(bundle.model_dump(mode="json")),
    )


def _entry(
    results: Results, dataset: str, models: tuple[str, str], entry: bundles.Entry
) -> ShownImage:
    def answer(model: str) -> ShownAnswer:
        said = entry.answers[model]
        return ShownAnswer(
            results.model_title(model),
            model == entry.right,
            results.class_name(dataset, said.predicted),
            said.posterior,
            said.map,
        )

    return ShownImage(
        entry.image_id,
        results.class_name(dataset, entry.label),
        results.class_name(dataset, entry.mistaken_for),
        entry.thumbnail,
        (answer(models[0]), answer(models[1])),
    )


def _without_pictures(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in ("map", "thumbnail")}
        return {k: _without_pictures(v) for k, v in kept.items()}
    return [_without_pictures(v) for v in value] if isinstance(value, list) else value
