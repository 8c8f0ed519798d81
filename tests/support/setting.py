"""A small model and dataset on disk, and evaluations of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genclass.config import ScoredModel
from genclass.data.image_list import ImageList, ImageRow
from genclass.files import sha256_of
from genclass.jobs.evaluate import evaluate
from genclass.jobs.worker import Job
from genclass.scores.shards import Shard
from genclass.specs.spec import ScoredDataset, Spec, specify
from tests.support import small_randar

IMAGES, CLASSES, CANDIDATES = 6, 5, [0, 1, 3, 4]


def draw_images(folder: Path, count: int, classes: int) -> ImageList:
    """Noise of 8 x 8 pixels, of each class in turn."""
    random = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        rows.append(ImageRow(f"a/{index}.png", path.name, index % classes, sha256_of(path)))
    return ImageList(tuple(rows))


@dataclass(frozen=True)
class Setting:
    """The files of `small_randar`, or another model's, and some images."""

    folder: Path
    model: ScoredModel
    files: dict[str, Path]  # what each checkpoint is for -> the file
    images: ImageList

    @classmethod
    def create(cls, folder: Path) -> Setting:
        setting = cls(
            folder,
            small_randar.model(layers=2, classes=CLASSES),
            small_randar.save(folder, layers=2, classes=CLASSES),
            draw_images(folder / "images", IMAGES, CLASSES),
        )
        assert setting.spec.sha256
        return setting

    @cached_property
    def spec(self) -> Spec:
        """Of the files as they were at first."""
        return self.specified()

    def specified(self, trials: int = 20, **changes: Any) -> Spec:
        """`changes`: of the model, such as `strategy`; trials: the budget of a race."""
        return specify(
            model=self.model.model_copy(update=changes),
            dataset=ScoredDataset("small", self.images.sha256, CANDIDATES),
            files={part: sha256_of(path) for part, path in self.files.items()},
            seed=1,
            trials=trials,
        )

    def job(self, shard: Shard, spec: Spec | None = None, **changes: Any) -> Job:
        job = Job(
            spec=spec or self.spec,
            shard=shard,
            image_list=self.images,
            folder=self.folder / "images",
            files=self.files,
            partial=self.folder / "partial",
            compiled=self.folder / "compiled",
            device=torch.device("cpu"),
            class_batch=2,
        )
        return replace(job, **changes)

    def run(
        self,
        shard: Shard,
        spec: Spec | None = None,
        destination: Path | None = None,
        gpus: Sequence[str] = (),
        **changes: Any,
    ) -> Path:
        """The score file that was written; `changes`: of the job."""
        path = destination or self.folder / "scores" / f"{shard.name}.safetensors"
        evaluate(self.job(shard, spec, **changes), path, gpus)
        return path
