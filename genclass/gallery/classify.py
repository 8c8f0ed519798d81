"""Classify single images, for a person: the posterior, and where the evidence lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genclass.config import Model
from genclass.data.images import center_crop
from genclass.gallery.evidence import draw_evidence
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image
from genclass.scorers.scorer import Scorer


@dataclass(frozen=True)
class Classification:
    """What a classifier thinks of an image.

    classes: int64 [k], the best first; posterior: float64 [k], under the uniform prior over all
    candidates; evidence: float32 [grid, grid], for the best against the runner-up (None: the
    scorer cannot say); crop: what the
    classifier saw.
    """

    classes: np.ndarray
    posterior: np.ndarray
    evidence: np.ndarray | None
    crop: Image.Image


def classify(
    scorer: Scorer,
    image: Image.Image,
    name: str,
    model: Model,
    seed: int,
    trials: int,
    best: int,
) -> Classification:
    """The `best` most probable of the network's classes for an image, averaged over trials.

    `name` stands for the image id: the same image under the same name gives the same numbers.
    """
    prepared = scorer.prepare(image, Draws(seed, "classify", name))
    candidates = torch.arange(model.network.classes)
    scores, _ = score_image(scorer, prepared, range(trials), candidates, model.class_batch)
    mean = scores.mean(axis=0, dtype=np.float64)
    posterior = np.exp(mean - np.logaddexp.reduce(mean))
    classes = np.argsort(-mean, kind="stable")[: max(best, 2)]
    evidence = scorer.evidence(prepared, range(trials), int(classes[0]), int(classes[1]))
    return Classification(
        classes[:best],
        posterior[classes[:best]],
        None if evidence is None else evidence.numpy(),
        center_crop(image, model.image_size),
    )


def save_evidence(result: Classification, path: str | Path, size: int = 512) -> None:
    """Save the evidence map over the image, as PNG of `size` x `size` pixels.

    Orange speaks for the best class, blue for the runner-up; the strongest place sets the scale.
    """
    assert result.evidence is not None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_evidence(result.evidence, result.crop, size).save(path)
