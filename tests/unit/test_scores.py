"""Score files and their merge: what is bound to a cell, and what is refused as not its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from genclass.config import Extent
from genclass.data.image_list import ImageList, ImageRow
from genclass.errors import GenclassError
from genclass.scores.merge import MergedScores, MergeRecord, merge
from genclass.scores.score_file import Header, Index, ScoreFile, finished_shards
from genclass.scores.shards import Shard, plan_shards
from genclass.specs.spec import Spec
from genclass.text import digest

IMAGES, TRIALS, CLASSES = 13, 8, 5
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.standard_normal((IMAGES, TRIALS, CLASSES)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, IMAGES) * 10
WHOLE = Shard(0, IMAGES, 0, TRIALS)
IMAGE_LIST = ImageList(
    tuple(
        ImageRow(f"image-{index}", f"{index}.png", int(label), digest(str(index)))
        for index, label in enumerate(LABELS)
    )
)
SPEC = Spec(
    seed=1,
    dataset="made-up",
    image_list=IMAGE_LIST.sha256,
    candidates=[0, 10, 20, 30, 40],
    image_size=8,
    network={"architecture": "randar"},
    files={"network": digest("network")},
    versions={"randar": 1},
)
OTHER = SPEC.model_copy(update={"seed": 2})
RACE = SPEC.model_copy(update={"strategy": {"kind": "fixed"}, "budget": TRIALS})


def made_up(
    shard: Shard, scores: np.ndarray = SCORES, spec: Spec = SPEC, **header: Any
) -> ScoreFile:
    images = slice(shard.image_start, shard.image_stop)
    return ScoreFile(
        header=Header(
            **{
                "spec": spec.sha256,
                "shard": shard.name,
                "device": "test",
                "seconds": 1.0,
                "forward_passes": len(shard.images) * len(shard.trials) * CLASSES,
                "flops": 10,
                "peak_memory": 1,
                "class_batch": 2,
                "racing": spec.races,
            }
            | header
        ),
        spec=spec.text,
        image_ids=[f"image-{i}" for i in shard.images],
        class_ids=np.array(spec.candidates),
        labels=LABELS[images],
        scores=scores[images, shard.trial_start : shard.trial_stop],
    )


def write_shard(folder: Path, shard: Shard, *arguments: Any, **header: Any) -> Path:
    path = folder / f"{shard.name}.safetensors"
    made_up(shard, *arguments, **header).write(path)
    return path


def merged(
    files: list[Path], destination: Path, images: int = IMAGES, trials: int = TRIALS
) -> MergeRecord:
    return merge(files, SPEC, IMAGE_LIST, Extent(images, trials, images), destination)


def merge_shards(
    tmp_path: Path, name: str, shards: list[Shard], images: int = IMAGES, trials: int = TRIALS
) -> tuple[Path, MergedScores]:
    folder = tmp_path / name
    files = [write_shard(folder, shard) for shard in shards]
    record = merged(files, folder / "merged", images, trials)
    return folder / "merged", MergedScores(folder / "merged", record, SPEC)


def test_a_score_file_reads_as_it_was_written(tmp_path: Path) -> None:
    read = ScoreFile.read(write_shard(tmp_path, Shard(2, 7, 1, 4)))
    np.testing.assert_array_equal(read.scores, SCORES[2:7, 1:4])
    np.testing.assert_array_equal(read.labels, LABELS[2:7])
    assert read.image_ids == [f"image-{i}" for i in range(2, 7)]
    assert read.header.forward_passes == 5 * 3 * CLASSES


def test_any_division_into_shards_merges_to_the_same_bytes(tmp_path: Path) -> None:
    whole, scores = merge_shards(tmp_path, "whole", [WHOLE])
    fine, _ = merge_shards(tmp_path, "fine", plan_shards(IMAGES, TRIALS, 3, 3))
    plan = plan_shards(IMAGES, TRIALS, 4, existing=plan_shards(IMAGES, 3, 5))
    grown, _ = merge_shards(tmp_path, "grown", plan)
    assert whole.read_bytes() == fine.read_bytes()
    assert whole.read_bytes() == grown.read_bytes()
    np.testing.assert_array_equal(scores.scores, SCORES)
    np.testing.assert_array_equal(scores.labels, LABELS)
    np.testing.assert_array_equal(scores.class_ids, np.arange(CLASSES) * 10)
    assert scores.image_ids[12] == "image-12"


def test_a_merged_file_is_ordinary_safetensors(tmp_path: Path) -> None:
    tensors = load_file(merge_shards(tmp_path, "a", plan_shards(IMAGES, TRIALS, 4))[0])
    np.testing.assert_array_equal(tensors["scores"], SCORES)


def test_a_smaller_cell_clips_images_and_trials(tmp_path: Path) -> None:
    """A shard may reach beyond it in both."""
    shards = plan_shards(IMAGES, TRIALS, 4)
    _, fewer_trials = merge_shards(tmp_path, "trials", shards, trials=3)
    np.testing.assert_array_equal(fewer_trials.scores, SCORES[:, :3])
    kept = plan_shards(6, 3, 4, existing=shards)
    path, fewer = merge_shards(tmp_path, "both", kept, images=6, trials=3)
    assert kept == shards[:2]
    np.testing.assert_array_equal(fewer.scores, SCORES[:6, :3])
    assert fewer.image_ids == [f"image-{i}" for i in range(6)]
    np.testing.assert_array_equal(fewer.labels, LABELS[:6])
    exact, _ = merge_shards(tmp_path, "exact", [Shard(0, 6, 0, 3)], images=6, trials=3)
    assert path.read_bytes() == exact.read_bytes()


def test_a_cell_that_grows_keeps_its_shards(tmp_path: Path) -> None:
    before = plan_shards(6, 3, 4)
    after = plan_shards(IMAGES, TRIALS, 4, existing=before)
    assert set(before) <= set(after)
    _, grown = merge_shards(tmp_path, "grown", after)
    np.testing.assert_array_equal(grown.scores, SCORES)


def test_the_record_adds_no_scores_but_every_cost(tmp_path: Path) -> None:
    files = [write_shard(tmp_path, shard) for shard in plan_shards(IMAGES, TRIALS, 5)]
    record = merged(files, tmp_path / "merged")
    assert sum(shard.forward_passes for shard in record.shards) == IMAGES * TRIALS * CLASSES
    assert [shard.file for shard in record.shards] == [str(f) for f in files]
    assert [shard.images for shard in record.shards] == [5, 5, 3]
    record.write(tmp_path / "record.json")
    assert MergeRecord.read(tmp_path / "record.json") == record


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


def test_racing_and_exhaustive_shards_do_not_mix(tmp_path: Path) -> None:
    files = [
        write_shard(tmp_path, Shard(0, 7, 0, 8)),
        write_shard(tmp_path, Shard(7, 13, 0, 8), SCORES, racing=True),
    ]
    with pytest.raises(GenclassError, match="racing and exhaustive scores cannot be merged"):
        merged(files, tmp_path / "merged")


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
    file = write_shard(tmp_path, WHOLE, left_out, RACE)
    assert np.isnan(ScoreFile.read(file).scores).sum() == 6


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    file = write_shard(tmp_path, WHOLE)
    record = merged([file], tmp_path / "merged")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(GenclassError, match=r"damaged .*: delete it and rerun"):
        ScoreFile.read(file)
    file.unlink()
    with pytest.raises(GenclassError, match="missing: rerun the workflow"):
        ScoreFile.read(file)
    (tmp_path / "merged").unlink()
    with pytest.raises(GenclassError, match="missing: rerun the workflow"):
        MergedScores(tmp_path / "merged", record, SPEC)


def test_a_renamed_shard_is_refused(tmp_path: Path) -> None:
    file = write_shard(tmp_path, WHOLE)
    wrong = file.rename(tmp_path / "images-00000-00012.trials-008-015.safetensors")
    with pytest.raises(GenclassError, match="it was renamed; delete it and rerun"):
        merged([wrong, write_shard(tmp_path, WHOLE)], tmp_path / "m", trials=16)


# A number passes through these files: each is bound to its cell, by spec and by content.


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, str]], None]) -> None:
    """Another's edit of a safetensors file: well formed, under the metadata that stood in it."""
    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path, metadata)


def flip_a_bit(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    tensors["scores"].view(np.uint32)[3, 2, 1] ^= 1


def permute_labels(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    tensors["labels"] = tensors["labels"][::-1]


def one_label(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    tensors["labels"][:] = 10


def permute_classes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    tensors["class_ids"] = tensors["class_ids"][::-1]


def permute_images(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    metadata["image_ids"] = metadata["image_ids"].replace("image-1", "image-100", 1)


def another_spec_text(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    metadata["spec"] = OTHER.text


def not_a_number(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    tensors["scores"][3, 2, 1] = np.nan


EDITS = [
    flip_a_bit,
    permute_labels,
    one_label,
    permute_classes,
    permute_images,
    another_spec_text,
    not_a_number,
]


def test_an_edit_that_changes_nothing_is_read(tmp_path: Path) -> None:
    file = write_shard(tmp_path, WHOLE)
    rewritten(file, lambda tensors, metadata: None)
    np.testing.assert_array_equal(ScoreFile.read(file).scores, SCORES)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_score_file_is_one_line(tmp_path: Path, edit) -> None:
    file = write_shard(tmp_path, WHOLE)
    rewritten(file, edit)
    for read in (lambda: ScoreFile.read(file), lambda: merged([file], tmp_path / "merged")):
        with pytest.raises(GenclassError, match=r"^\S+images-00000\S+: .*: delete it and rerun$"):
            read()
    assert not (tmp_path / "merged").exists()


def test_one_bit_of_any_byte_of_the_scores_is_seen(tmp_path: Path) -> None:
    file = write_shard(tmp_path, WHOLE)
    whole = file.read_bytes()
    for place in range(len(whole) - 4 * SCORES.size, len(whole), 211):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(GenclassError, match="delete it and rerun"):
            ScoreFile.read(file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": LABELS[::-1].copy()}, "its labels are not the image list's"),
        ({"image_ids": [f"image-{12 - i}" for i in range(13)]}, "its images are not the image"),
        ({"class_ids": np.arange(CLASSES)}, "its classes are not the spec's"),
    ],
)
def test_a_whole_file_of_other_images_is_refused(tmp_path: Path, changes, said: str) -> None:
    """Its checksum is right: it was written so."""
    file = tmp_path / f"{WHOLE.name}.safetensors"
    replace(made_up(WHOLE), **changes).write(file)
    with pytest.raises(GenclassError, match=f"{said}.*: delete it and rerun$"):
        merged([file], tmp_path / "merged")


def test_another_spec_is_refused(tmp_path: Path) -> None:
    files = [
        write_shard(tmp_path, Shard(0, 7, 0, 8)),
        write_shard(tmp_path, Shard(7, 13, 0, 8), SCORES, OTHER),
    ]
    told = f"made by spec {OTHER.sha256[:12]}, but this evaluation is {SPEC.sha256[:12]}: delete"
    with pytest.raises(GenclassError, match=told):
        merged(files, tmp_path / "merged")
    assert list(finished_shards(tmp_path, SPEC)) == [Shard(0, 7, 0, 8)]


def test_another_image_list_is_refused(tmp_path: Path) -> None:
    fewer = ImageList(IMAGE_LIST.rows[:-1])
    with pytest.raises(GenclassError, match="the image list is not the one of the spec: rerun"):
        merge([write_shard(tmp_path, WHOLE)], SPEC, fewer, Extent(12, 8, 12), tmp_path / "merged")


@pytest.mark.parametrize("edit", [flip_a_bit, permute_labels, one_label, permute_classes])
def test_a_changed_merged_file_is_one_line(tmp_path: Path, edit) -> None:
    path = tmp_path / "merged"
    record = merged([write_shard(tmp_path, WHOLE)], path)
    rewritten(path, edit)
    with pytest.raises(GenclassError, match=r"is not what was merged .*: delete it and rerun"):
        MergedScores(path, record, SPEC)


def test_a_record_of_another_cell_is_one_line(tmp_path: Path) -> None:
    record = merged([write_shard(tmp_path, WHOLE)], tmp_path / "merged")
    with pytest.raises(GenclassError, match=r"its record is of spec .*: delete both and rerun"):
        MergedScores(tmp_path / "merged", record, OTHER)
    (tmp_path / "record.json").write_text(record.model_dump_json()[:-9])
    with pytest.raises(GenclassError, match=r"no record of merged scores .*: delete it and rerun"):
        MergeRecord.read(tmp_path / "record.json")


def test_an_older_versions_file_is_one_line(tmp_path: Path) -> None:
    file = write_shard(tmp_path, WHOLE)
    rewritten(file, lambda tensors, metadata: metadata.pop("spec"))
    with pytest.raises(GenclassError, match="no score file of this version: delete it and rerun"):
        Index.read(file)


def test_in_a_race_who_dropped_out_stays_out(tmp_path: Path) -> None:
    again = SCORES.copy()
    again[3, 2, 1] = np.nan  # and finite afterwards
    file = write_shard(tmp_path, WHOLE, again, RACE)
    with pytest.raises(GenclassError, match=r"scored again after it had dropped out .*delete it"):
        ScoreFile.read(file)
    nobody = SCORES.copy()
    nobody[3] = np.nan
    with pytest.raises(GenclassError, match="not finite, the first at image 3, trial 0"):
        write_shard(tmp_path, WHOLE, nobody, RACE)
