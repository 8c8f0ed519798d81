"""Merge: the shards of one (model, dataset), checked to be an exact cover, as one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt

from genclass.config import Extent
from genclass.data.image_list import ImageList, ImageRow
from genclass.errors import GenclassError
from genclass.files import atomic_file, read_json, sha256_of, write_atomically
from genclass.scores.noise_record import NoiseRecord
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from genclass.section import PositiveInt, Section, Sha256
from genclass.specs.spec import Spec

_ITEM = 4  # bytes of a float32


class MergedShard(Header):
    """A shard's header, its file, and how many of its images are in the cell."""

    file: str
    sha256: Sha256
    images: PositiveInt


class MergeRecord(Section):
    """What the merged scores of a cell were made of, and what they cost."""

    spec: Sha256
    images: PositiveInt
    trials: PositiveInt
    classes: PositiveInt
    racing: bool
    exhaustive: NonNegativeInt  # of the images, the first: all their scores are there
    noise: NoiseRecord | None  # by which its races were decided, where a pilot measured it
    sha256: Sha256  # of the merged file
    shards: list[MergedShard]

    def write(self, path: str | Path) -> None:
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> MergeRecord:
        """
        Raises:
            GenclassError: the file is missing or no record.
        """
        return read_json(path, cls, "record of merged scores", "delete it and rerun")


@dataclass
class CellScores:
    """Scores of some images of a cell under all its trials.

    scores: float32 [images, trials, classes]; class_ids: int64 [classes]; labels: int64 [images];
    image_ids: [images]; spec: sha256; racing: NaN marks what was left out, but not in the first
    `exhaustive` images.
    """

    image_ids: list[str]
    spec: str
    racing: bool
    exhaustive: int
    class_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class MergedScores(CellScores):
    """The merged scores of one (model, dataset), read image by image through a memory map."""

    def __init__(self, path: str | Path, record: MergeRecord, spec: Spec) -> None:
        """
        Raises:
            GenclassError: the file is missing, or not the one that `merge` wrote with this record,
                of this spec.
        """
        path = Path(path)
        if record.spec != spec.sha256:
            raise GenclassError(
                f"{path}: its record is of spec {record.spec[:12]}, but this evaluation is "
                f"{spec.sha256[:12]}: delete both and rerun"
            )
        if not path.is_file():
            raise GenclassError(f"{path}: missing: rerun the workflow")
        if sha256_of(path) != record.sha256:
            raise GenclassError(
                f"{path}: is not what was merged (its sha256 is another): delete it and rerun"
            )
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            metadata = header["__metadata__"]
            base = 8 + length

            def view(name: str, dtype: str) -> np.ndarray:
                start, _ = header[name]["data_offsets"]
                shape = tuple(header[name]["shape"])
                return np.memmap(path, dtype=dtype, mode="r", offset=base + start, shape=shape)

            super().__init__(
                image_ids=json.loads(metadata["image_ids"]),
                spec=metadata["spec"],
                racing=metadata["racing"] == "true",
                exhaustive=record.exhaustive,
                class_ids=np.array(view("class_ids", "<i8")),
                labels=np.array(view("labels", "<i8")),
                scores=view("scores", "<f4"),
            )
        except (KeyError, ValueError, OSError):
            raise GenclassError(f"{path}: no merged scores: delete it and rerun") from None


def merge(
    files: Sequence[str | Path],
    spec: Spec,
    image_list: ImageList,
    extent: Extent,
    destination: str | Path,
) -> MergeRecord:
    """Merge score files into `destination` (safetensors) and return the record of their costs.

    Of a race, the extent's first images are taken from exhaustive score files, the others from
    those of races. Files that reach beyond their part are clipped to it. The result depends on the
    scores alone, not on how they were divided into shards. Memory is bounded by one shard.

    Raises:
        GenclassError: a gap, an overlap, another spec, or classes, images or labels that are not
            those of spec and image list.
    """
    images, trials = extent.images, extent.trials
    if image_list.sha256 != spec.image_list:
        raise GenclassError(
            f"{spec.dataset}: the image list is not the one of the spec: rerun the workflow"
        )
    rows = image_list.rows
    shards = {Path(file): Shard.from_name(Path(file).name) for file in files}
    _check_cover(shards, extent)
    ordered = sorted(shards, key=lambda file: shards[file])
    class_ids = np.array(spec.candidates, dtype=np.int64)
    labels = np.array([row.class_id for row in rows[:images]], dtype=np.int64)
    metadata = {
        "image_ids": json.dumps([row.image_id for row in rows[:images]]),
        "spec": spec.sha256,
        "racing": "true" if spec.races else "false",
    }
    records: list[MergedShard] = []
    noise: NoiseRecord | None = None
    row_bytes = len(class_ids) * _ITEM
    with atomic_file(destination) as output:
        header = _header(metadata, len(class_ids), images, trials)
        output.write(header)
        output.write(class_ids.astype("<i8").tobytes())
        output.write(labels.astype("<i8").tobytes())
        base = output.tell()
        output.truncate(base + images * trials * row_bytes)
        for file in ordered:
            shard = shards[file]
            part = ScoreFile.read(file)
            check_part(part, file, shard, spec, rows)
            taken = shard.images_in(extent.part(shard.race))
            if not taken:
                continue
            first = taken.start - shard.image_start
            stop = min(shard.trial_stop, trials) - shard.trial_start
            scores = part.scores[first : first + len(taken), :stop]
            noise = noise or part.header.noise
            records.append(
                MergedShard(
                    **part.header.model_dump(exclude={"noise"}),
                    file=str(file),
                    sha256=sha256_of(file),
                    images=len(scores),
                )
            )
            for row, image in enumerate(taken):
                output.seek(base + (image * trials + shard.trial_start) * row_bytes)
                output.write(np.ascontiguousarray(scores[row], dtype="<f4").tobytes())
    return MergeRecord(
        spec=spec.sha256,
        images=images,
        trials=trials,
        classes=len(class_ids),
        racing=spec.races,
        exhaustive=extent.exhaustive,
        noise=noise,
        sha256=sha256_of(destination),
        shards=records,
    )


def _header(metadata: dict[str, str], classes: int, images: int, trials: int) -> bytes:
    """The safetensors header: its length, then JSON padded to 8 bytes."""
    ends = [8 * classes, 8 * classes + 8 * images]
    ends.append(ends[1] + images * trials * classes * _ITEM)
    text = json.dumps(
        {
            "__metadata__": metadata,
            "class_ids": {"dtype": "I64", "shape": [classes], "data_offsets": [0, ends[0]]},
            "labels": {"dtype": "I64", "shape": [images], "data_offsets": [ends[0], ends[1]]},
            "scores": {
                "dtype": "F32",
                "shape": [images, trials, classes],
                "data_offsets": [ends[1], ends[2]],
            },
        },
        separators=(",", ":"),
    ).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check_cover(shards: dict[Path, Shard], extent: Extent) -> None:
    """Every (image, trial) of the budget in exactly one shard."""
    covered = np.zeros((extent.images, extent.trials), dtype=bool)
    for file, shard in shards.items():
        taken = shard.images_in(extent.part(shard.race))
        view = covered[taken.start : taken.stop, shard.trial_start : shard.trial_stop]
        if view.any():
            other = next(
                f
                for f, s in shards.items()
                if f != file and s.race == shard.race and s.overlaps(shard)
            )
            raise GenclassError(f"{file} overlaps {other}: delete one of them and rerun")
        view[:] = True
    if not covered.all():
        image, trial = (int(i) for i in np.argwhere(~covered)[0])
        raise GenclassError(
            f"{len(shards)} shards leave a gap of {int((~covered).sum())} scores per class, the "
            f"first at image {image}, trial {trial}: rerun the workflow, which computes it"
        )


def check_part(
    part: ScoreFile, file: Path, shard: Shard, spec: Spec, rows: Sequence[ImageRow]
) -> None:
    """Its spec, ranges, classes, images and labels are those that this cell asks for."""
    asked = spec.of(shard)
    if part.header.spec != asked.sha256:
        raise GenclassError(
            f"{file}: made by spec {part.header.spec[:12]}, but this evaluation is "
            f"{asked.sha256[:12]}: delete it and rerun"
        )
    if part.header.shard != shard.name:
        raise GenclassError(
            f"{file}: holds {part.header.shard}: it was renamed; delete it and rerun"
        )
    if not part.header.racing == shard.race == asked.races:
        raise GenclassError(f"{file}: racing and exhaustive scores cannot be merged")
    if part.class_ids.tolist() != spec.candidates:
        raise GenclassError(f"{file}: its classes are not the spec's: delete it and rerun")
    expected = rows[shard.image_start : shard.image_stop]
    if part.image_ids != [row.image_id for row in expected]:
        raise GenclassError(f"{file}: its images are not the image list's: delete it and rerun")
    if part.labels.tolist() != [row.class_id for row in expected]:
        raise GenclassError(f"{file}: its labels are not the image list's: delete it and rerun")
