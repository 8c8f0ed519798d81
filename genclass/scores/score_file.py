"""The score file: what one shard of an evaluation found, and who found it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.scores.shards import Shard


@dataclass(frozen=True)
class Header:
    """Who computed a shard, under which spec, at what cost."""

    spec: str  # the spec's sha256
    shard: str  # the shard's name
    device: str  # e.g. "NVIDIA H200" or a CPU's name
    seconds: float  # of scoring alone, without loading
    forward_passes: int  # one network evaluation of one sequence or latent
    flops: int  # necessary floating-point operations of these passes
    peak_memory: int  # bytes
    class_batch: int  # classes scored at once
    racing: bool = False  # NaN marks what racing did not evaluate
    versions: dict[str, str] = field(default_factory=dict)  # genclass, torch, ...


@dataclass(frozen=True)
class ScoreFile:
    """Scores of some images under some trials for all candidate classes; higher is better.

    scores: float32 [images, trials, classes]; NaN only where racing did not evaluate.
    image_ids: [images]; class_ids: int64 [classes]; labels: int64 [images], true class ids.
    """

    header: Header
    image_ids: list[str]
    class_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def write(self, path: str | Path) -> None:
        """Check and write; the file is whole or not there.

        Raises:
            GenclassError: a score is infinite, or NaN without racing; the disk is full.
        """
        check_finite(self.scores, self.header.racing, str(path))
        metadata = {
            "genclass": json.dumps(asdict(self.header), sort_keys=True),
            "image_ids": json.dumps(self.image_ids),
        }
        tensors: dict[str, np.ndarray] = {
            "scores": np.ascontiguousarray(self.scores, dtype=np.float32),
            "class_ids": np.asarray(self.class_ids, dtype=np.int64),
            "labels": np.asarray(self.labels, dtype=np.int64),
        }
        write_atomically(path, save(tensors, metadata))

    @classmethod
    def read(cls, path: str | Path) -> ScoreFile:
        """Read a whole score file.

        Raises:
            GenclassError: it is missing, damaged, no score file, or its parts do not fit.
        """
        tensors, metadata = read_safetensors(path)
        try:
            header = Header(**json.loads(metadata["genclass"]))
            image_ids = json.loads(metadata["image_ids"])
            scores = tensors["scores"]
            file = cls(header, image_ids, tensors["class_ids"], tensors["labels"], scores)
        except (KeyError, TypeError, json.JSONDecodeError):
            raise GenclassError(
                f"{path}: no score file of this version; delete and rerun"
            ) from None
        shard = Shard.from_name(header.shard)
        expected = (len(shard.images), len(shard.trials), len(file.class_ids))
        fits = scores.shape == expected and len(image_ids) == len(file.labels) == expected[0]
        if not fits or scores.dtype != np.float32:
            raise GenclassError(
                f"{path}: holds scores {list(scores.shape)}, but {header.shard} with "
                f"{len(file.class_ids)} classes is {list(expected)}: delete it and rerun"
            )
        check_finite(scores, header.racing, str(path))
        if header.racing and (np.isnan(scores[:, :-1]) & ~np.isnan(scores[:, 1:])).any():
            raise GenclassError(
                f"{path}: a class was scored again after it had dropped out of its race: delete "
                f"it and rerun"
            )
        return file


@dataclass(frozen=True)
class Index:
    """A score file without its scores: see `ScoreFile`."""

    header: Header
    image_ids: list[str]
    class_ids: np.ndarray
    labels: np.ndarray

    @classmethod
    def read(cls, path: str | Path) -> Index:
        """Read what stands before and beside the scores, in no time.

        Raises:
            GenclassError: it is missing, damaged or no score file.
        """
        tensors, metadata = read_safetensors(path, ("class_ids", "labels"))
        try:
            header = Header(**json.loads(metadata["genclass"]))
            image_ids = json.loads(metadata["image_ids"])
            index = cls(header, image_ids, tensors["class_ids"], tensors["labels"])
        except (KeyError, TypeError, json.JSONDecodeError):
            raise GenclassError(
                f"{path}: no score file of this version; delete and rerun"
            ) from None
        images = len(Shard.from_name(header.shard).images)
        if not images == len(index.image_ids) == len(index.labels):
            raise GenclassError(
                f"{path}: names {len(index.image_ids)} images and {len(index.labels)} labels, but "
                f"{header.shard} has {images}: delete it and rerun"
            )
        return index


def finished_shards(folder: str | Path, spec: str | None) -> dict[Shard, Header]:
    """The shards of a folder whose score files are there and of this spec (its sha256)."""
    finished = {}
    for path in Path(folder).glob("images-*.trials-*.safetensors"):
        with suppress(GenclassError):
            header = Index.read(path).header
            if header.spec == spec:
                finished[Shard.from_name(header.shard)] = header
    return finished


def read_safetensors(
    path: str | Path, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Some tensors (None: all; an absent one is left out) and the metadata of a safetensors file.

    Raises:
        GenclassError: it is missing or damaged.
    """
    if not Path(path).is_file():
        raise GenclassError(f"{path}: missing: rerun the workflow, which computes it again")
    try:
        with safe_open(str(path), framework="numpy") as file:
            present: Any = file.keys()
            wanted = [name for name in present if names is None or name in names]
            return {name: file.get_tensor(name) for name in wanted}, file.metadata() or {}
    except SafetensorError as error:
        raise GenclassError(f"{path}: damaged ({error}): delete it and rerun") from None


def check_finite(scores: np.ndarray, racing: bool, where: str) -> None:
    """Refuse infinite scores, and NaN unless racing left classes out.

    Raises:
        GenclassError: naming the first such place.
    """
    bad = np.isinf(scores) if racing else ~np.isfinite(scores)
    if bad.any():
        image, trial, column = (int(i) for i in np.argwhere(bad)[0])
        raise GenclassError(
            f"{where}: {int(bad.sum())} scores are not finite, the first at image {image}, "
            f"trial {trial}, class column {column} of the shard: check the checkpoint and the dtype"
        )
