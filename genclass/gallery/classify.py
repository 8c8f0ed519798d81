"""Classify single images, for a person: the posterior, and where the evidence lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genclass.config import Config
from genclass.data.class_lists import ClassList
from genclass.data.images import center_crop, decode
from genclass.errors import GenclassError
from genclass.gallery.evidence import draw_evidence
from genclass.jobs.worker import choose_device
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image
from genclass.scorers.scorer import Prepared, Scorer
from genclass.sources import Manifest
from genclass.text import did_you_mean

_BEST = 5  # classes that are named


@dataclass(frozen=True)
class Classification:
    """What a classifier thinks of an image.

    classes: int64 [k], the best first; names: of these classes; posterior: float64 [k], under the
    uniform prior over all candidates; evidence: float32 [grid, grid], for the best against the
    runner-up (None: the scorer cannot say); crop: what the scorer saw.
    """

    classes: np.ndarray
    names: list[str]
    posterior: np.ndarray
    evidence: np.ndarray | None
    crop: Image.Image


def classify_files(
    config: Config,
    model: str,
    images: Sequence[str | Path],
    trials: int | None = None,
    device: str = "auto",
) -> Iterator[Classification]:
    """What a model thinks of each image file: its five most probable classes, and the evidence.

    The file's name stands for the image id: the same image under the same name gives the same
    numbers. trials: how many are averaged; None: the model's budget. device: auto, cpu or cuda.

    Raises:
        GenclassError: the model is unknown or has not so many trials, a checkpoint is not on disk,
            or a file is no image: said before the network is loaded.
    """
    if model not in config.models:
        raise GenclassError(f"unknown model '{model}': {did_you_mean(model, config.models)}")
    section = config.models[model]
    budget, limit = trials or section.trials, section.system.trial.limit
    if limit is not None and budget > limit:
        raise GenclassError(f"{budget} trials: {model} has {limit} different")
    labels = next((config.datasets[d].labels for m, d in config.cells() if m == model), None)
    if labels is None:
        raise GenclassError(f"model '{model}' is in no evaluation of the config: add it to one")
    names = {entry.class_id: entry.name for entry in ClassList.load(labels).entries}
    files = {}
    for part, checkpoint in section.system.checkpoints.items():
        path = config.run.manifest("checkpoints", checkpoint)
        file = Path(Manifest.read(path).path) if path.is_file() else None
        if file is None or not file.exists():
            raise GenclassError(
                f"checkpoint '{checkpoint}' is not on disk: run the workflow, or: genclass fetch"
            )
        files[part] = file
    decoded = [decode(image) for image in images]
    scorer = section.system.load(files, choose_device(device))
    candidates = torch.arange(section.network.classes)
    batch = section.class_batch
    for path, image in zip(map(Path, images), decoded, strict=True):
        prepared = scorer.prepare(image, Draws(config.seed, "classify", path.name))
        scores, batch = score_image(scorer, prepared, range(budget), candidates, batch)
        yield _classification(scorer, prepared, scores, section.image_size, names)


def _classification(
    scorer: Scorer,
    prepared: Prepared,
    scores: np.ndarray,
    size: int,
    names: Mapping[int, str],
) -> Classification:
    """scores: float32 [trials, classes]; size: of the images that the model sees."""
    mean = scores.mean(axis=0, dtype=np.float64)
    posterior = np.exp(mean - np.logaddexp.reduce(mean))
    classes = np.argsort(-mean, kind="stable")[:_BEST]
    evidence = scorer.evidence(prepared, range(len(scores)), int(classes[0]), int(classes[1]))
    return Classification(
        classes=classes,
        names=[names.get(int(c), str(c)) for c in classes],
        posterior=posterior[classes],
        evidence=None if evidence is None else evidence.numpy(),
        crop=center_crop(prepared.image, size),
    )


def save_evidence(result: Classification, path: str | Path, size: int = 512) -> None:
    """Save the evidence map over the image, as PNG of `size` x `size` pixels.

    Orange speaks for the best class, blue for the runner-up; the strongest place sets the scale.
    """
    assert result.evidence is not None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_evidence(result.evidence, result.crop, size).save(path)
