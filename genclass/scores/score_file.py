"""The score file: what one shard of a cell found, under which spec, and who found it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.scores.noise_record import NoiseRecord
from genclass.scores.shards import Shard
from genclass.section import Section, Sha256
from genclass.specs.spec import Spec
from genclass.text import digest

_IDS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class Header(Section):
    """Who computed a shard, under which spec, at what cost."""

    spec: Sha256
    shard: str  # its name
    device: str  # e.g. "NVIDIA H200" or a CPU's name
    seconds: NonNegativeFloat  # of scoring alone, without loading
    forward_passes: NonNegativeInt  # one network evaluation of one sequence, latent or image
    flops: NonNegativeInt  # necessary floating-point operations
    peak_memory: NonNegativeInt  # bytes
    class_batch: NonNegativeInt  # forward passes at once, at most
    racing: bool = False  # NaN marks what racing did not evaluate
    noise: NoiseRecord | None = None  # by which a race was decided, where a pilot measured it
    versions: dict[str, str] = {}  # genclass, torch, ...


@dataclass(frozen=True)
class Index:
    """A score file without its scores.

    spec: the canonical text; image_ids: [images]; class_ids: int64 [classes]; labels: int64
    [images], true class ids.
    """

    header: Header
    spec: str
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
        return cls._of(path, tensors, metadata)

    @classmethod
    def _of(
        cls, path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
    ) -> Index:
        try:
            header = Header.model_validate_json(metadata["genclass"])
            spec, image_ids = metadata["spec"], _IDS.validate_json(metadata["image_ids"])
            index = Index(header, spec, image_ids, tensors["class_ids"], tensors["labels"])
            images = len(Shard.from_name(header.shard).images)
        except (KeyError, ValidationError, GenclassError):
            raise GenclassError(
                f"{path}: no score file of this version: delete it and rerun"
            ) from None
        for name, tensor, count in (
            ("labels", index.labels, images),
            ("classes", index.class_ids, len(index.class_ids)),
        ):
            if tensor.dtype != np.int64 or tensor.shape != (count,):
                raise GenclassError(
                    f"{path}: its {name} are {tensor.dtype} {list(tensor.shape)}, but "
                    f"{header.shard} has {count}: delete it and rerun"
                )
        if len(image_ids) != images:
            raise GenclassError(
                f"{path}: names {len(image_ids)} images, but {header.shard} has {images}: delete "
                f"it and rerun"
            )
        if digest(spec) != header.spec:
            raise GenclassError(f"{path}: its spec is not the one it names: delete it and rerun")
        return index


@dataclass(frozen=True)
class ScoreFile(Index):
    """Scores of some images under some trials for all candidate classes; higher is better.

    scores: float32 [images, trials, classes]; NaN only where racing did not evaluate.
    """

    scores: np.ndarray

    @property
    def checksum(self) -> str:
        """The sha256 of everything that a number depends on: ids, labels, classes, scores."""
        content = hashlib.sha256(json.dumps(self.image_ids).encode())
        for tensor, dtype in ((self.class_ids, "<i8"), (self.labels, "<i8"), (self.scores, "<f4")):
            content.update(np.ascontiguousarray(tensor, dtype=dtype).data)
        return content.hexdigest()

    def write(self, path: str | Path) -> None:
        """Check and write; the file is whole or not there.

        Raises:
            GenclassError: a score is infinite, or NaN without racing; the disk is full.
        """
        if problem := not_finite(self.scores, self.header.racing):
            raise GenclassError(f"{path}: {problem}: check the checkpoint and the dtype")
        metadata = {
            "genclass": self.header.model_dump_json(),
            "spec": self.spec,
            "image_ids": json.dumps(self.image_ids),
            "checksum": self.checksum,
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
        index = cls._of(path, tensors, metadata)
        header, scores = index.header, tensors.get("scores", np.empty(0))
        shard = Shard.from_name(header.shard)
        expected = (len(shard.images), len(shard.trials), len(index.class_ids))
        if scores.shape != expected or scores.dtype != np.float32:
            raise GenclassError(
                f"{path}: holds {scores.dtype} scores {list(scores.shape)}, but {header.shard} "
                f"with {len(index.class_ids)} classes is float32 {list(expected)}: delete it and "
                f"rerun"
            )
        file = cls(header, index.spec, index.image_ids, index.class_ids, index.labels, scores)
        if file.checksum != metadata.get("checksum"):
            raise GenclassError(
                f"{path}: its content is not what was written (checksum): delete it and rerun"
            )
        if problem := not_finite(scores, header.racing):
            raise GenclassError(f"{path}: {problem}: delete it and rerun")
        if header.racing and (np.isnan(scores[:, :-1]) & ~np.isnan(scores[:, 1:])).any():
            raise GenclassError(
                f"{path}: a class was scored again after it had dropped out of its race: delete "
                f"it and rerun"
            )
        return file


@dataclass(frozen=True)
class Stamp:
    """What a score file says of itself: its header, and the checksum of its scores."""

    header: Header
    checksum: str

    @classmethod
    def read(cls, path: str | Path) -> Stamp:
        """Without its scores, and without checking them.

        Raises:
            GenclassError: it is missing, damaged or no score file.
        """
        _, metadata = read_safetensors(path, ())
        try:
            header = Header.model_validate_json(metadata["genclass"])
            Shard.from_name(header.shard)
            return cls(header, metadata["checksum"])
        except (KeyError, ValidationError, GenclassError):
            raise GenclassError(
                f"{path}: no score file of this version: delete it and rerun"
            ) from None


def finished_shards(folder: str | Path, spec: Spec | None) -> dict[Shard, Header]:
    """The shards of a cell's folder whose score files are there and of this spec."""
    finished = {}
    for path in Path(folder).glob("images-*.safetensors"):
        with suppress(GenclassError):
            header = Index.read(path).header
            shard = Shard.from_name(header.shard)
            if spec is not None and header.spec == spec.of(shard).sha256:
                finished[shard] = header
    return finished


def read_safetensors(
    path: str | Path, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Some tensors (None: all; an absent one is left out) and the metadata of a safetensors file.

    Raises:
        GenclassError: it is missing, cannot be read, or is damaged.
    """
    if not Path(path).is_file():
        raise GenclassError(f"{path}: missing: rerun the workflow, which computes it again")
    try:
        with safe_open(str(path), framework="numpy") as file:
            present: Any = file.keys()
            wanted = [name for name in present if names is None or name in names]
            return {name: file.get_tensor(name) for name in wanted}, file.metadata() or {}
    except OSError as error:
        raise GenclassError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise GenclassError(f"{path}: damaged ({error}): delete it and rerun") from None


def not_finite(scores: np.ndarray, racing: bool) -> str | None:
    """What is wrong where scores are infinite, or NaN without racing, naming the first place."""
    bad = np.isinf(scores) if racing else ~np.isfinite(scores)
    if racing:  # whoever races is scored in the first trial
        bad |= np.isnan(scores).all(axis=(1, 2), keepdims=True)
    if not bad.any():
        return None
    image, trial, column = (int(i) for i in np.argwhere(bad)[0])
    return (
        f"{int(bad.sum())} scores are not finite, the first at image {image}, trial {trial}, "
        f"class column {column} of the shard"
    )
