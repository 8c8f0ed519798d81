"""The rehearsal: the workflow of a config at its true size, with made-up scores.

Nothing is downloaded and no network is run; a seeded generator draws the scores. Every file says
so: manifests (`place`), image lists (their ids, so that no score file of a rehearsal can pass for a
real one), score files
(`device`), predictions (the images' ids), and every table and figure of the report (`WARNING`). No
torch: a shard takes about as long as writing it.
"""

from __future__ import annotations

import math
import platform
import time
from functools import partial as bind
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

import genclass
from genclass.config import Checkpoint, Config, Dataset, Selection
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList, ImageRow
from genclass.jobs.costs import costs
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec
from genclass.text import digest

if TYPE_CHECKING:
    from genclass.sources import Manifest

MARK = "rehearsal"
WARNING = "REHEARSAL, every number is made up"  # on what people read
FLOPS_PER_SECOND = 4e14  # the made-up device

# A class's scores are N(0, 1) over classes, around the family's level, plus its noise in each
# trial. How often the true class is the best of them is told; how hard an image is, is in part the
# same for all models: of two that are right on 50 and 60 % of the images, one alone is so on 30 %.
ALIKE = 0.6
LEAST_LEAD = 0.8  # of the true class over the best other one, or of that one over it


def rehearsed(config: Config) -> Config:
    """The config as it is rehearsed: that share of each dataset's images, in its own folder."""
    share = config.rehearsal
    if share is None:
        return config
    results = Path(config.results)
    title = f"{WARNING}: {config.report.title}"

    def shared(images: int, least: int = 1) -> int:
        return max(least, round(images * share))

    def least(dataset: Dataset) -> int:
        """Where the classes are those that are there, one image of each."""
        return dataset.classes or 1 if dataset.candidates == "present" else 1

    return config.model_copy(
        update={
            "results": str(results.parent / MARK / f"{results.name}-{share:g}"),
            "report": config.report.model_copy(update={"title": title}),
            "exhaustive": shared(config.exhaustive)
            if isinstance(config.exhaustive, int) and config.exhaustive
            else config.exhaustive,
            "datasets": {
                name: dataset.model_copy(
                    update={
                        "images": shared(dataset.images, least(dataset)),
                        "exhaustive": dataset.exhaustive and shared(dataset.exhaustive),
                    }
                )
                for name, dataset in config.datasets.items()
            },
            "evaluations": [
                evaluation.model_copy(
                    update={"images": evaluation.images and shared(evaluation.images)}
                )
                for evaluation in config.evaluations
            ],
        }
    )


def make_manifest(kind: str, name: str, section: Checkpoint | Dataset) -> Manifest:
    """The manifest of a file or folder that does not exist."""
    from genclass.sources import Manifest  # takes its time; needed here only

    return Manifest(
        name=f"{kind}/{name}",
        kind="file",
        path=MARK,
        place=f"{MARK}: nothing was fetched",
        bytes=section.bytes or section.about_bytes or 0,
        files=0,
        sha256=digest(f"{MARK}-{name}"),
        licence=section.licence,
    )


def make_image_list(name: str, selection: Selection, classes: int, seed: int) -> ImageList:
    """As many images as the dataset has, in even numbers of its candidate classes."""
    entries = sorted(ClassList.load(selection.labels).entries, key=lambda entry: entry.class_id)
    rows = []
    for index in range(selection.images):
        column = index * classes // selection.images
        entry = entries[column * len(entries) // classes]
        image_id = f"{MARK}/{entry.folder}/{index:06d}.jpeg"
        rows.append(ImageRow(image_id, image_id, entry.class_id, digest(f"{name}/{image_id}")))
    return ImageList(tuple(rows)).ordered(seed)


def make_scores(
    spec: Spec,
    shard: Shard,
    image_list: ImageList,
    class_batch: int,
    destination: str | Path,
    accuracy: float = 0.7,
) -> None:
    """The score file of a shard: a function of the spec, the image and the trial.

    accuracy: about how many of the images are classified right with all trials.

    Raises:
        GenclassError: the disk is full.
    """
    start = time.perf_counter()
    rows = image_list.rows[shard.image_start : shard.image_stop]
    scores = np.empty((len(rows), len(shard.trials), len(spec.candidates)), dtype=np.float32)
    key = spec.exhaustive.sha256  # a race sees the scores that exhaustive scoring would
    # Imported here: Snakemake imports this module at every start.
    from genclass.racing.noise import Noise
    from genclass.racing.schedule import build_schedule, race_scores

    spread = math.sqrt(2) * spec.system.family.made_up.trial_noise  # of a difference of two classes
    noise = Noise(spread, degrees_of_freedom=100.0)
    schedule = build_schedule(
        spec.schedule,
        lambda: noise,
        len(spec.candidates),
        exchangeable=True,  # as these made-up trials are
    )
    for index, row in enumerate(rows):
        image = _image_scores(spec, key, row, shard.trial_stop, accuracy)[shard.trial_start :]
        scores[index] = image
        if spec.races:  # a part of a trial is made up as its whole is
            scores[index] = race_scores(image, schedule, bind(_first_trial, image))
    scored = int((~np.isnan(scores)).sum())
    passes, flops = costs(spec, len(rows), scored)
    header = Header(
        spec=spec.sha256,
        shard=shard.name,
        device=f"{MARK} (no device)",
        seconds=flops / FLOPS_PER_SECOND,
        forward_passes=passes,
        flops=flops,
        peak_memory=scores.nbytes,
        class_batch=class_batch,
        racing=spec.races,
        noise=noise.record if spec.races else None,
        versions={
            "genclass": genclass.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )
    ScoreFile(
        header=header,
        spec=spec.text,
        image_ids=[row.image_id for row in rows],
        class_ids=np.array(spec.candidates, dtype=np.int64),
        labels=np.array([row.class_id for row in rows], dtype=np.int64),
        scores=scores,
    ).write(destination)
    print(f"{shard.name}: {scored} scores made up in {time.perf_counter() - start:.2f} s")


def _first_trial(scores: np.ndarray, part: int) -> np.ndarray:
    return np.asarray(scores[0])


def _image_scores(spec: Spec, key: str, row: ImageRow, trials: int, accuracy: float) -> np.ndarray:
    """float32 [trials, classes]: the first `trials` of an image. `key`: the spec's sha256."""
    random = np.random.default_rng(_seed(f"{key}/{row.image_id}"))
    hardness = np.random.default_rng(_seed(row.image_id)).standard_normal()
    own = random.standard_normal()
    image = random.standard_normal(len(spec.candidates))
    true = spec.candidates.index(row.class_id)
    image[true] = -np.inf
    lead = LEAST_LEAD + abs(random.standard_normal())
    image[true] = image.max() + (lead if _right(hardness, own, accuracy) else -lead)
    made_up = spec.system.family.made_up
    scores = random.standard_normal((trials, len(spec.candidates)), dtype=np.float32)
    scores *= made_up.trial_noise
    scores += (image + made_up.level).astype(np.float32)
    return scores


def is_right(images: int, accuracy: float, model: str, dataset: str) -> np.ndarray:
    """Which of so many made-up images a made-up model classifies right: bool [images].

    model, dataset: what else the draws depend on; models share what depends on the dataset.
    """
    hardness, own = (
        np.random.default_rng(_seed(key)).standard_normal(images)
        for key in (dataset, f"{dataset}/{model}")
    )
    return np.asarray(_right(hardness, own, accuracy))


def _right(hardness: Any, own: Any, accuracy: float) -> Any:
    value = math.sqrt(ALIKE) * hardness + math.sqrt(1 - ALIKE) * own
    return value < NormalDist().inv_cdf(min(max(accuracy, 1e-6), 1 - 1e-6))


def _seed(text: str) -> int:
    return int(digest(text)[:16], 16)
