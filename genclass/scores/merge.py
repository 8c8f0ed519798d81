"""Merge: the shards of one (model, dataset), checked to be an exact cover, as one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from genclass.errors import GenclassError
from genclass.files import atomic_file, sha256_of, write_atomically
from genclass.scores.score_file import Index, ScoreFile
from genclass.scores.shards import Shard

_ITEM = 4  # bytes of a float32


class MergedScores:
    """The merged scores of one (model, dataset), read image by image through a memory map.

    scores: float32 [images, trials, classes], a read-only map; class_ids: int64 [classes];
    labels: int64 [images]; image_ids: [images]; spec: sha256; racing: NaN marks what was left out.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Raises:
            GenclassError: the file is missing or not one that `merge` wrote.
        """
        path = Path(path)
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

            self.image_ids: list[str] = json.loads(metadata["image_ids"])
            self.spec: str = metadata["spec"]
            self.racing: bool = metadata["racing"] == "true"
            self.class_ids = np.array(view("class_ids", "<i8"))
            self.labels = np.array(view("labels", "<i8"))
            self.scores = view("scores", "<f4")
        except FileNotFoundError:
            raise GenclassError(f"{path}: missing: rerun the workflow") from None
        except (KeyError, ValueError, OSError):
            raise GenclassError(f"{path}: no merged scores: delete it and rerun") from None


def merge(
    files: Sequence[str | Path], images: int, trials: int, spec: str, destination: str | Path
) -> dict[str, Any]:
    """Merge score files into `destination` (safetensors) and return the record of their costs.

    Files that reach beyond the budget are clipped to it. The result depends on the scores alone,
    not on how they were divided into shards. Memory is bounded by one shard.

    Raises:
        GenclassError: a gap, an overlap, another spec, classes or images that do not fit, or
            exhaustive and racing shards together.
    """
    shards = {Path(file): Shard.from_name(Path(file).name) for file in files}
    _check_cover(shards, images, trials)
    ordered = sorted(shards, key=lambda file: shards[file])
    first = Index.read(ordered[0])
    class_ids, racing = first.class_ids, first.header.racing
    labels = np.full(images, -1, dtype=np.int64)
    image_ids: list[str | None] = [None] * images
    records: list[dict[str, Any]] = []

    # Labels and ids stand before the scores in the file, so a first pass reads them all.
    for file in ordered:
        index = Index.read(file)
        _check_part(index, file, shards[file], first, spec)
        for row, image in enumerate(shards[file].images):
            if image_ids[image] not in (None, index.image_ids[row]) or (
                labels[image] not in (-1, index.labels[row])
            ):
                raise GenclassError(
                    f"{file}: image {image} is '{index.image_ids[row]}', but '{image_ids[image]}' "
                    f"in another shard: delete both and rerun"
                )
            image_ids[image] = index.image_ids[row]
            labels[image] = index.labels[row]
    metadata = {
        "image_ids": json.dumps(image_ids),
        "spec": spec,
        "racing": "true" if racing else "false",
    }
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
            width = min(shard.trial_stop, trials) - shard.trial_start
            part = ScoreFile.read(file)
            scores = part.scores[:, :width]
            records.append({**asdict(part.header), "file": str(file), "sha256": sha256_of(file)})
            for row, image in enumerate(shard.images):
                output.seek(base + (image * trials + shard.trial_start) * row_bytes)
                output.write(np.ascontiguousarray(scores[row], dtype="<f4").tobytes())
    return {
        "spec": spec,
        "images": images,
        "trials": trials,
        "classes": len(class_ids),
        "racing": racing,
        "sha256": sha256_of(destination),
        "shards": records,
    }


def write_record(record: dict[str, Any], path: str | Path) -> None:
    write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


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


def _check_cover(shards: dict[Path, Shard], images: int, trials: int) -> None:
    """Every (image, trial) of the budget in exactly one shard."""
    covered = np.zeros((images, trials), dtype=bool)
    for file, shard in shards.items():
        if shard.image_stop > images:
            raise GenclassError(f"{file}: reaches beyond the {images} images of its dataset")
        view = covered[shard.image_start : shard.image_stop, shard.trial_start : shard.trial_stop]
        if view.any():
            other = next(f for f, s in shards.items() if f != file and s.overlaps(shard))
            raise GenclassError(f"{file} overlaps {other}: delete one of them and rerun")
        view[:] = True
    if not covered.all():
        image, trial = (int(i) for i in np.argwhere(~covered)[0])
        raise GenclassError(
            f"{len(shards)} shards leave a gap of {int((~covered).sum())} scores per class, the "
            f"first at image {image}, trial {trial}: rerun the workflow, which computes it"
        )


def _check_part(part: Index, file: Path, shard: Shard, first: Index, spec: str) -> None:
    if part.header.spec != spec:
        raise GenclassError(
            f"{file}: made by spec {part.header.spec[:12]}, but this evaluation is {spec[:12]}: "
            f"delete it and rerun"
        )
    if part.header.shard != shard.name:
        raise GenclassError(
            f"{file}: holds {part.header.shard}: it was renamed; delete it and rerun"
        )
    if not np.array_equal(part.class_ids, first.class_ids):
        raise GenclassError(f"{file}: its candidate classes differ from the first shard's")
    if part.header.racing != first.header.racing:
        raise GenclassError(f"{file}: racing and exhaustive scores cannot be merged")
