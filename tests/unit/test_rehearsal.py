"""Made-up files: of the true size, marked, and the same however they are divided."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genclass.config import Config, load_config
from genclass.data.image_list import ImageList
from genclass.jobs.rehearsal import is_right, make_image_list, make_manifest, make_scores, rehearsed
from genclass.planning.work import candidate_count
from genclass.reporting.assumed import assumed_accuracies
from genclass.reporting.paper import Paper
from genclass.reporting.statements import Statements
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import Spec, specify
from genclass.text import digest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> Config:
    loaded = load_config(REPOSITORY / "config.yaml")
    return rehearsed(loaded.model_copy(update={"rehearsal": 0.1}))


def make_images(config: Config, dataset: str) -> ImageList:
    section = config.datasets[dataset]
    return make_image_list(dataset, section, candidate_count(dataset, section), config.seed)


def make_spec(config: Config, model: str, dataset: str) -> tuple[Spec, ImageList]:
    images, section = make_images(config, dataset), config.models[model]
    files = {
        part: make_manifest("checkpoints", name, config.checkpoints[name]).sha256
        for part, name in section.system.checkpoints.items()
    }
    selection = config.datasets[dataset]
    scored = scored_dataset(dataset, selection, images, selection.classes)
    return specify(section, scored, files, config.seed, section.trials).exhaustive, images


def test_a_rehearsal_has_its_share_of_the_images_and_its_own_folder(config: Config) -> None:
    assert config.datasets["imagenet-r"].images == 3000
    assert config.results == "results/rehearsal/paper-0.1"
    assert config.report.title.startswith("REHEARSAL, every number is made up")
    real = load_config(REPOSITORY / "config.yaml")
    assert rehearsed(real) is real


def test_image_lists_have_the_true_numbers_of_images_and_classes(config: Config) -> None:
    images = make_images(config, "imagenet-r")
    labels = [row.class_id for row in images.rows]
    assert len(labels) == 3000
    assert len(set(labels)) == 200
    assert np.unique(labels, return_counts=True)[1].tolist() == [15] * 200
    assert images == images.ordered(config.seed)
    assert labels != sorted(labels)  # any first rows are of many classes


def test_every_file_is_marked(config: Config, tmp_path: Path) -> None:
    manifest = make_manifest("checkpoints", "randar-l", config.checkpoints["randar-l"])
    assert manifest.place.startswith("rehearsal") and manifest.sha256 == digest(
        "rehearsal-randar-l"
    )
    spec, images = make_spec(config, "randar-l", "objectnet")
    assert spec.files["network"] == digest("rehearsal-randar-l")
    assert all(row.image_id.startswith("rehearsal/") for row in images.rows)
    shard = Shard(0, 2, 0, 3)
    make_scores(spec, shard, images, 5, tmp_path / "scores")
    header = ScoreFile.read(tmp_path / "scores").header
    assert header.device.startswith("rehearsal")
    assert header.forward_passes == 2 * 3 * len(spec.candidates)


def test_any_division_into_shards_gives_the_same_scores(config: Config, tmp_path: Path) -> None:
    spec, images = make_spec(config, "dit-xl", "objectnet")

    def scores(*shard: int) -> np.ndarray:
        make_scores(spec, Shard(*shard), images, 5, tmp_path / "scores")
        return ScoreFile.read(tmp_path / "scores").scores

    whole = scores(0, 6, 0, 20)
    np.testing.assert_array_equal(scores(2, 5, 0, 20), whole[2:5])
    np.testing.assert_array_equal(scores(0, 6, 7, 13), whole[:, 7:13])


def test_more_trials_are_more_often_right(config: Config, tmp_path: Path) -> None:
    spec, images = make_spec(config, "randar-l", "imagenet-a")
    make_scores(spec, Shard(0, 750, 0, 20), images, 5, tmp_path / "scores")
    file = ScoreFile.read(tmp_path / "scores")

    def accuracy(trials: int) -> float:
        best = file.class_ids[file.scores[:, :trials].mean(axis=1).argmax(axis=1)]
        return float((best == file.labels).mean())

    assert accuracy(1) + 0.05 < accuracy(20)
    assert accuracy(20) == pytest.approx(0.7, abs=0.05)  # what is assumed


def test_accuracies_are_the_papers(config: Config) -> None:
    paper = Paper.load()
    found = assumed_accuracies(config, paper, Statements.load(paper))
    assert found["dit-xl", "imagenet-r"] == 0.402
    assert found["sit-xl", "imagenet-r"] == found["sit-xl-repa", "imagenet-r"] == 0.296
    noisy = "imagenet-c-gaussian-noise-3"
    assert found["dinov2-xl", noisy] == pytest.approx(0.75 * 0.827 - 0.152)
    assert set(found) == set(config.cells())
    assert all(0 < value < 1 for value in found.values())


def test_models_are_right_on_the_same_images_in_part() -> None:
    one, other = (is_right(40_000, a, name, "set") for a, name in ((0.5, "a"), (0.6, "b")))
    assert one.mean() == pytest.approx(0.5, abs=0.01)
    assert other.mean() == pytest.approx(0.6, abs=0.01)
    assert (one != other).mean() == pytest.approx(0.3, abs=0.02)


def test_no_torch() -> None:
    code = "import sys, genclass.jobs.rehearsal; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
