"""Score files and their merge."""

from pathlib import Path

import numpy as np
import pytest

from genclass.errors import GenclassError
from genclass.scores.merge import MergedScores, merge
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard, plan_shards

IMAGES, TRIALS, CLASSES = 13, 8, 5
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.standard_normal((IMAGES, TRIALS, CLASSES)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, IMAGES) * 10
SPEC = "a" * 64


def write_shard(folder: Path, shard: Shard, scores: np.ndarray = SCORES, **header) -> Path:
    path = folder / f"{shard.name}.safetensors"
    images = slice(shard.image_start, shard.image_stop)
    ScoreFile(
        header=Header(
            **{
                "spec": SPEC,
                "shard": shard.name,
                "device": "test",
                "seconds": 1.0,
                "forward_passes": len(shard.images) * len(shard.trials) * CLASSES,
                "flops": 10,
                "peak_memory": 1,
                "class_batch": 2,
            }
            | header
        ),
        image_ids=[f"image-{i}" for i in shard.images],
        class_ids=np.arange(CLASSES) * 10,
        labels=LABELS[images],
        scores=scores[images, shard.trial_start : shard.trial_stop],
    ).write(path)
    return path


def merge_shards(tmp_path: Path, name: str, shards: list[Shard], **kwargs) -> Path:
    folder = tmp_path / name
    files = [write_shard(folder, shard) for shard in shards]
    options = {"images": IMAGES, "trials": TRIALS, "spec": SPEC} | kwargs
    merge(files, options["images"], options["trials"], options["spec"], folder / "merged")
    return folder / "merged"


def test_a_score_file_reads_as_it_was_written(tmp_path: Path) -> None:
    read = ScoreFile.read(write_shard(tmp_path, Shard(2, 7, 1, 4)))
    np.testing.assert_array_equal(read.scores, SCORES[2:7, 1:4])
    np.testing.assert_array_equal(read.labels, LABELS[2:7])
    assert read.image_ids == [f"image-{i}" for i in range(2, 7)]
    assert read.header.forward_passes == 5 * 3 * CLASSES


def test_any_division_into_shards_merges_to_the_same_bytes(tmp_path: Path) -> None:
    whole = merge_shards(tmp_path, "whole", [Shard(0, IMAGES, 0, TRIALS)])
    fine = merge_shards(tmp_path, "fine", plan_shards(IMAGES, TRIALS, 3, 3))
    grown = plan_shards(IMAGES, TRIALS, 4, existing=plan_shards(IMAGES, 3, 5))
    assert whole.read_bytes() == fine.read_bytes()
    assert whole.read_bytes() == merge_shards(tmp_path, "grown", grown).read_bytes()
    merged = MergedScores(whole)
    np.testing.assert_array_equal(merged.scores, SCORES)
    np.testing.assert_array_equal(merged.labels, LABELS)
    np.testing.assert_array_equal(merged.class_ids, np.arange(CLASSES) * 10)
    assert merged.image_ids[12] == "image-12"


def test_a_merged_file_is_ordinary_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(merge_shards(tmp_path, "a", plan_shards(IMAGES, TRIALS, 4)))
    np.testing.assert_array_equal(tensors["scores"], SCORES)


def test_a_smaller_budget_clips(tmp_path: Path) -> None:
    clipped = merge_shards(tmp_path, "clipped", plan_shards(IMAGES, TRIALS, 4), trials=3)
    np.testing.assert_array_equal(MergedScores(clipped).scores, SCORES[:, :3])


def test_the_record_adds_no_scores_but_every_cost(tmp_path: Path) -> None:
    files = [write_shard(tmp_path, shard) for shard in plan_shards(IMAGES, TRIALS, 5)]
    record = merge(files, IMAGES, TRIALS, SPEC, tmp_path / "merged")
    passes = sum(shard["forward_passes"] for shard in record["shards"])
    assert passes == IMAGES * TRIALS * CLASSES
    assert [shard["file"] for shard in record["shards"]] == [str(f) for f in files]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([Shard(0, 13, 0, 7)], "leave a gap of 13 scores per class, the first at image 0, trial 7"),
        ([Shard(0, 5, 0, 8), Shard(6, 13, 0, 8)], "the first at image 5, trial 0"),
        ([Shard(0, 8, 0, 8), Shard(7, 13, 0, 8)], "overlaps .*images-00000-00007"),
    ],
)
def test_gaps_and_overlaps_are_refused(tmp_path: Path, shards, message: str) -> None:
    with pytest.raises(GenclassError, match=message):
        merge_shards(tmp_path, "bad", shards)
    assert not (tmp_path / "bad" / "merged").exists()


def test_shards_beyond_the_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match="reaches beyond the 12 images of its dataset"):
        merge_shards(tmp_path, "bad", [Shard(0, 13, 0, 8)], images=12)


def test_another_spec_is_refused(tmp_path: Path) -> None:
    files = [
        write_shard(tmp_path, Shard(0, 7, 0, 8)),
        write_shard(tmp_path, Shard(7, 13, 0, 8), spec="b" * 64),
    ]
    with pytest.raises(GenclassError, match=r"made by spec bbbbbbbbbbbb, but this evaluation is a"):
        merge(files, IMAGES, TRIALS, SPEC, tmp_path / "merged")


def test_racing_and_exhaustive_shards_do_not_mix(tmp_path: Path) -> None:
    files = [
        write_shard(tmp_path, Shard(0, 7, 0, 8)),
        write_shard(tmp_path, Shard(7, 13, 0, 8), racing=True),
    ]
    with pytest.raises(GenclassError, match="racing and exhaustive scores cannot be merged"):
        merge(files, IMAGES, TRIALS, SPEC, tmp_path / "merged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    bad = SCORES.copy()
    bad[3, 2, 1] = value
    with pytest.raises(GenclassError, match=r"1 scores are not finite, the first at image 3, tria"):
        write_shard(tmp_path, Shard(0, 13, 0, 8), bad)
    assert list(tmp_path.iterdir()) == []


def test_racing_may_leave_out(tmp_path: Path) -> None:
    left_out = SCORES.copy()
    left_out[3, 2:, 1] = np.nan
    file = write_shard(tmp_path, Shard(0, 13, 0, 8), left_out, racing=True)
    assert np.isnan(ScoreFile.read(file).scores).sum() == 6


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    file = write_shard(tmp_path, Shard(0, 13, 0, 8))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(GenclassError, match=r"damaged .*: delete it and rerun"):
        ScoreFile.read(file)
    file.unlink()
    with pytest.raises(GenclassError, match="missing: rerun the workflow"):
        ScoreFile.read(file)
    with pytest.raises(GenclassError, match="missing: rerun the workflow"):
        MergedScores(tmp_path / "merged")


def test_a_renamed_shard_is_refused(tmp_path: Path) -> None:
    file = write_shard(tmp_path, Shard(0, 13, 0, 8))
    other = file.rename(tmp_path / "images-00000-00012.trials-000-007.safetensors")
    wrong = other.rename(tmp_path / "images-00000-00012.trials-008-015.safetensors")
    with pytest.raises(GenclassError, match="it was renamed; delete it and rerun"):
        merge([wrong, write_shard(tmp_path, Shard(0, 13, 0, 8))], IMAGES, 16, SPEC, tmp_path / "m")
