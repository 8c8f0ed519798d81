"""A run that has not come far: made-up score files of some images of some cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genclass.config import Config, Evaluations
from genclass.data.image_list import ImageList
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.planning.work import candidate_count
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of
from tests.support.synthetic_results import make_config


def small(root: Path, models: list[str], datasets: list[str]) -> Config:
    """The config of `synthetic_results`, of some cells; lists and manifests are on disk."""
    config = make_config(root)
    table = config.report.tables["main"].model_copy(update={"columns": datasets})
    report = config.report.model_copy(update={"tables": {"main": table}, "gallery": []})
    evaluation = Evaluations(models=models, datasets=datasets)
    sections = {
        name: section.model_copy(update={"candidates": "all", "images": 300})
        for name, section in config.datasets.items()
    }
    config = config.model_copy(
        update={"report": report, "evaluations": [evaluation], "datasets": sections}
    )
    for name in datasets:
        images = make_image_list(
            name, sections[name], candidate_count(name, sections[name]), config.seed
        )
        images.write(config.run.image_list(name))
    for (kind, name), section in config.sources().items():
        make_manifest(kind, name, section).write(config.run.manifest(kind, name))
    return config


def score(
    config: Config,
    model: str,
    dataset: str,
    *images: tuple[int, int],
    seconds: float | None = None,
    race: bool = False,
) -> None:
    """The score files of some ranges of images; seconds: what each of them took."""
    spec = specs_of(config)[model, dataset]
    trials = config.cells()[model, dataset].trials
    rows = ImageList.read(config.run.image_list(dataset))
    for start, stop in images:
        shard = Shard(start, stop, 0, trials, race)
        path = config.run.shard(model, dataset, shard.name)
        make_scores(spec.of(shard), shard, rows, 5, path)
        if seconds is not None:
            file = ScoreFile.read(path)
            header = file.header.model_copy(update={"seconds": seconds})
            replace(file, header=header).write(path)
