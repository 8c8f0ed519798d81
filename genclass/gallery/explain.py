"""Explain: where one of two models is right and the other wrong, and what speaks for it where.

Of each such image, both models' evidence for its class against the class it was mistaken for.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from genclass.analysis.metrics import Metrics
from genclass.data.image_list import ImageList, ImageRow
from genclass.data.images import center_crop, load_image
from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.gallery.bundle import Bundle
from genclass.gallery.evidence import draw_evidence
from genclass.scorers.draws import Draws
from genclass.specs.spec import Spec

_PICTURE = 160  # pixels of a side, twice what the page shows: sharp on dense screens
_COLUMNS = ["image_id", "label", "budget", "predicted", "posterior", "correct", "raced"]


@dataclass(frozen=True)
class ModelSide:
    """One of the two models: under which spec, with which files and answers."""

    model: str
    spec: Spec
    files: Mapping[str, Path]  # what each checkpoint is for -> the file
    predictions: pd.DataFrame  # at its whole budget, by image id


@dataclass(frozen=True)
class Images:
    """The images of the dataset.

    thumbnails: may they be shown? If not, the maps stand on plain grey.
    """

    image_list: ImageList
    folder: Path
    thumbnails: bool


@dataclass(frozen=True)
class Choice:
    """An image on whose class the two disagree, one of them being right."""

    image_id: str
    right: str  # the model
    label: int
    mistaken_for: int  # the other model's answer


def read_predictions(path: str | Path, metrics: Metrics) -> pd.DataFrame:
    """Those at the whole budget, sorted by image id.

    Raises:
        GenclassError: the file is missing or damaged, or not the one of these metrics.
    """
    metrics.check_predictions(path)
    try:
        frame = pd.read_parquet(path, columns=_COLUMNS)
    except (OSError, ValueError, KeyError):
        raise GenclassError(f"{path}: no predictions: delete it and rerun") from None
    whole = frame[frame["budget"] == frame["budget"].max()]
    answers = whole[whole["raced"] == metrics.racing]
    return answers.set_index("image_id").sort_index()


def choose(one: ModelSide, other: ModelSide, number: int) -> tuple[list[Choice], dict[str, int]]:
    """Up to `number` images right by `one` only, then as many right by `other` only.

    Evenly spread over all of them in the order of their ids: the same every time, of many
    classes, and not picked by their looks.

    Returns:
        The choice; and how many images each model alone has right, by its name.
    """
    chosen: list[Choice] = []
    counts: dict[str, int] = {}
    for right, wrong in ((one, other), (other, one)):
        both = right.predictions.merge(
            wrong.predictions, left_index=True, right_index=True, suffixes=("", "_wrong")
        )
        alone = both[both["correct"] & ~both["correct_wrong"]]
        counts[right.model] = len(alone)
        places = (np.arange(min(number, len(alone))) * len(alone)) // max(
            1, min(number, len(alone))
        )
        for row in alone.iloc[places].reset_index().to_dict("records"):
            chosen.append(
                Choice(row["image_id"], right.model, row["label"], row["predicted_wrong"])
            )
    return chosen, counts


def explain(
    sides: tuple[ModelSide, ModelSide],
    images: Images,
    number: int,
    device: torch.device,
    destination: Path,
) -> dict[str, Any]:
    """Write what the gallery shows of two models on one dataset, as one JSON.

    Each network is loaded once and asked, for every trial of its budget, about two classes of the
    chosen images, with the draws that they were scored with.

    Args:
        number: of images a side, at most.

    Returns:
        What was written: `dataset`, `models`, `specs`, `budgets`, `right_alone` (by model),
        `images` (how many both have predictions of), and `entries`: image_id, right, label,
        mistaken_for, thumbnail (a data URI or None), and by model `answers`: predicted, posterior
        (None: of a race), evidence [grid][grid] and its `map` (a data URI), both None where the
        scorer cannot say.

    Raises:
        GenclassError: specs, image list or files do not belong together, or an image is damaged.
    """
    one, other = sides
    for side in sides:
        if side.spec.image_list != images.image_list.sha256:
            raise GenclassError(
                f"{side.spec.dataset}: the image list is not the one of {side.model}'s spec: "
                f"rerun the workflow"
            )
    chosen, counts = choose(one, other, number)
    rows = {row.image_id: row for row in images.image_list.rows}
    shown = {choice.image_id: rows[choice.image_id] for choice in chosen}
    answers = {side.model: _answers(side, chosen, shown, images, device) for side in sides}
    pictures: dict[str, str | None] = dict.fromkeys(shown)
    if images.thumbnails:
        pictures |= {name: _thumbnail(images.folder, row, one.spec) for name, row in shown.items()}
    bundle: dict[str, Any] = {
        "dataset": one.spec.dataset,
        "models": [one.model, other.model],
        "specs": {side.model: side.spec.sha256 for side in sides},
        "budgets": {side.model: _budget(side) for side in sides},
        "images": len(one.predictions.index.intersection(other.predictions.index)),
        "right_alone": counts,
        "entries": [
            {
                "image_id": choice.image_id,
                "right": choice.right,
                "label": choice.label,
                "mistaken_for": choice.mistaken_for,
                "thumbnail": pictures[choice.image_id],
                "answers": {model: answers[model][place] for model in answers},
            }
            for place, choice in enumerate(chosen)
        ],
    }
    text = json.dumps(bundle, allow_nan=False) + "\n"
    Bundle.model_validate_json(text, strict=True)  # as it is read again
    write_atomically(destination, text)
    return bundle


def _budget(side: ModelSide) -> int:
    return int(side.predictions["budget"].iloc[0])


def _answers(
    side: ModelSide,
    chosen: Sequence[Choice],
    rows: dict[str, ImageRow],
    images: Images,
    device: torch.device,
) -> list[dict[str, Any]]:
    """What a model said of each chosen image, and its evidence."""
    if not chosen:
        return []
    spec = side.spec
    scorer = spec.system.load(side.files, device)
    trials = range(_budget(side))
    predicted = side.predictions["predicted"].to_dict()
    posteriors = side.predictions["posterior"].to_dict()
    answers = []
    for choice in chosen:
        image = load_image(images.folder, rows[choice.image_id], spec.border)
        prepared = scorer.prepare(image, Draws(spec.seed, spec.dataset, choice.image_id))
        evidence = scorer.evidence(prepared, trials, choice.label, choice.mistaken_for)
        # Without its border, an image may not be shown: not below its evidence either.
        shown = images.thumbnails and not spec.border
        ground = center_crop(image, spec.image_size) if shown else None
        posterior = float(posteriors[choice.image_id])
        answers.append(
            {
                "predicted": int(predicted[choice.image_id]),
                "posterior": None if math.isnan(posterior) else posterior,
                **_shown(evidence, ground),
            }
        )
    return answers


def _shown(evidence: torch.Tensor | None, ground: Image.Image | None) -> dict[str, Any]:
    """The evidence as numbers and as a picture; None where the scorer cannot say."""
    if evidence is None:
        return {"evidence": None, "map": None}
    return {
        "evidence": [[float(f"{v:.4g}") for v in row] for row in evidence.tolist()],
        "map": _data_uri(draw_evidence(evidence.numpy(), ground, _PICTURE)),
    }


def _thumbnail(folder: Path, row: ImageRow, spec: Spec) -> str:
    """The image as the classifier sees it; where its border must be kept, whole and with it."""
    image = load_image(folder, row)
    if not spec.border:
        crop = center_crop(image, spec.image_size)
        finer = spec.image_size >= _PICTURE
        way = Image.Resampling.LANCZOS if finer else Image.Resampling.NEAREST
        return _data_uri(crop.resize((_PICTURE, _PICTURE), way))
    width = 3  # of the border: scaled down with the image, it could not be seen
    inner = load_image(folder, row, spec.border)
    inner.thumbnail((_PICTURE - 2 * width, _PICTURE - 2 * width))
    red, green, blue = np.asarray(image)[0, 0].tolist()
    return _data_uri(ImageOps.expand(inner, width, (red, green, blue)))


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
