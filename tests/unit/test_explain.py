"""The gallery's bundle: which images are chosen, that evidence adds up, and what may be shown."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from genclass.analysis.metrics import Metrics
from genclass.data.image_list import ImageList, ImageRow
from genclass.data.images import load_image
from genclass.errors import GenclassError
from genclass.files import sha256_of
from genclass.gallery.explain import Images, ModelSide, choose, explain, read_predictions
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image
from genclass.specs.spec import ScoredDataset, specify
from tests.support import small_randar

CPU = torch.device("cpu")
TRIALS = 3


def predictions(right: list[bool], wrong_class: int) -> pd.DataFrame:
    """Of ten images of class 0; where the model is wrong, it says `wrong_class`."""
    correct = np.array(right)
    frame = pd.DataFrame(
        {
            "image_id": [f"zero/{index}.png" for index in range(len(right))],
            "label": 0,
            "budget": TRIALS,
            "predicted": np.where(correct, 0, wrong_class),
            "posterior": 0.5,
            "correct": correct,
        }
    )
    return frame.set_index("image_id")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSide, ModelSide, ImageList, Path]:
    """Two models: one network in random and in raster order; ten images."""
    folder = tmp_path_factory.mktemp("explain")
    files = small_randar.save(folder, layers=1, classes=5)
    random = np.random.default_rng(0)
    rows = []
    for index in range(10):
        path = folder / "images" / f"zero/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (14, 12, 3), dtype=np.uint8)
        pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = [(255, 0, 0)] * 4
        Image.fromarray(pixels).save(path)
        rows.append(ImageRow(f"zero/{index}.png", f"zero/{index}.png", 0, sha256_of(path)))
    images = ImageList(tuple(rows))
    specs = [
        specify(
            model=small_randar.model(layers=1, classes=5, classifier=classifier),
            dataset=ScoredDataset("noise", images.sha256, [0, 1, 2, 3, 4]),
            files={part: sha256_of(path) for part, path in files.items()},
            seed=1,
            trials=TRIALS,
        )
        for classifier in ({}, {"orders": "constant"})
    ]
    random_order = [True] * 7 + [False] * 3
    raster_order = [False] * 5 + [True] * 2 + [True, False, False]
    one = ModelSide("random", specs[0], files, predictions(random_order, 1))
    other = ModelSide("raster", specs[1], files, predictions(raster_order, 2))
    return one, other, images, folder / "images"


def bundle(
    sides: tuple[ModelSide, ModelSide, ImageList, Path], path: Path, **changes: Any
) -> dict[str, Any]:
    one, other, image_list, folder = sides
    images = Images(image_list, folder, changes.pop("thumbnails", True))
    arguments = {"number": 2, "device": CPU, "destination": path} | changes
    return explain((one, other), images, **arguments)


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")


def unevenness(uri: str) -> float:
    """Of the tones within the map's first cell, of 40 x 40 pixels."""
    return float(np.asarray(picture(uri), dtype=float)[4:36, 4:36].std(axis=(0, 1)).max())


def test_the_choice_is_even_and_knows_who_is_right(
    sides: tuple[ModelSide, ModelSide, ImageList, Path],
) -> None:
    one, other, *_ = sides
    chosen, counts = choose(one, other, 2)
    assert counts == {"random": 5, "raster": 1}
    assert [(c.image_id, c.right, c.label, c.mistaken_for) for c in chosen] == [
        ("zero/0.png", "random", 0, 2),
        ("zero/2.png", "random", 0, 2),
        ("zero/7.png", "raster", 0, 1),
    ]
    assert choose(one, other, 50)[1] == counts
    assert len(choose(one, other, 50)[0]) == 6
    assert choose(one, one, 3) == ([], {"random": 0})


def test_evidence_adds_up_to_the_difference_of_the_scores(
    sides: tuple[ModelSide, ModelSide, ImageList, Path], tmp_path: Path
) -> None:
    written = bundle(sides, tmp_path / "bundle.json")
    assert json.loads((tmp_path / "bundle.json").read_text()) == written
    rows = {row.image_id: row for row in sides[2].rows}
    for side in sides[:2]:
        scorer = side.spec.system.load(side.files, CPU)
        for entry in written["entries"]:
            image = load_image(sides[3], rows[entry["image_id"]])
            prepared = scorer.prepare(image, Draws(1, "noise", entry["image_id"]))
            classes = [entry["label"], entry["mistaken_for"]]
            mean = score_image(scorer, prepared, range(TRIALS), classes, 2)[0].mean(axis=0)
            evidence = np.array(entry["answers"][side.model]["evidence"])
            assert evidence.shape == (4, 4)
            assert evidence.sum() == pytest.approx(float(mean[0] - mean[1]), abs=0.02)


def test_pictures_are_shown_where_they_may_be(
    sides: tuple[ModelSide, ModelSide, ImageList, Path], tmp_path: Path
) -> None:
    shown = bundle(sides, tmp_path / "shown.json")["entries"][0]
    hidden = bundle(sides, tmp_path / "hidden.json", thumbnails=False)["entries"][0]
    assert picture(shown["thumbnail"]).size == (160, 160)
    assert hidden["thumbnail"] is None
    assert hidden["answers"]["random"]["evidence"] == shown["answers"]["random"]["evidence"]
    assert (
        unevenness(hidden["answers"]["random"]["map"])
        < 3
        < unevenness(shown["answers"]["random"]["map"])
    )
    assert hidden["answers"]["random"]["map"] != shown["answers"]["random"]["map"]


def test_where_the_border_must_stay_the_whole_image_is_shown_with_it(
    sides: tuple[ModelSide, ModelSide, ImageList, Path], tmp_path: Path
) -> None:
    one, other, images, folder = sides
    bordered = [replace(s, spec=s.spec.model_copy(update={"border": 2})) for s in (one, other)]
    entry = bundle((*bordered, images, folder), tmp_path / "bundle.json")["entries"][0]
    thumbnail = np.asarray(picture(entry["thumbnail"]), dtype=int)
    assert thumbnail.shape[0] > thumbnail.shape[1]  # not cropped to a square
    for edge in (thumbnail[0], thumbnail[-1], thumbnail[:, 0], thumbnail[:, -1]):
        assert edge[:, 0].mean() > 200 and edge[:, 1:].mean() < 60  # red
    assert unevenness(entry["answers"]["random"]["map"]) < 3  # no image below it


def test_another_image_list_is_refused(
    sides: tuple[ModelSide, ModelSide, ImageList, Path], tmp_path: Path
) -> None:
    one, other, images, folder = sides
    fewer = ImageList(images.rows[:9])
    with pytest.raises(GenclassError, match="not the one of random's spec"):
        bundle((one, other, fewer, folder), tmp_path / "bundle.json")


def test_predictions_are_those_of_the_whole_budget(tmp_path: Path) -> None:
    whole = predictions([True, False], 1).reset_index().assign(raced=False)
    raced = whole.assign(raced=True, correct=False)  # by a race of the same images
    path = tmp_path / "predictions.parquet"
    every = pd.concat([whole.assign(budget=1, correct=False), whole, raced])
    every.to_parquet(path, index=False)
    metrics = Metrics.model_construct(predictions=sha256_of(path), racing=False)
    read = read_predictions(path, metrics)
    assert read["budget"].tolist() == [TRIALS, TRIALS]
    assert read["correct"].tolist() == [True, False]
    path.write_bytes(b"cut")
    with pytest.raises(GenclassError, match=r"not the predictions that .*: delete it and rerun"):
        read_predictions(path, metrics)
