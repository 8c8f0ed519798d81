"""The spec: exactly what changes the numbers of one cell (model, dataset), and nothing else.

What stands at its default is left out, so that a new option changes no spec that exists; a family
and an encoder have a version of their own, raised by hand when their numbers may change. Light: no
torch, and a spec is read without the plugin that its family stands in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genclass.config import ScoredModel, Strategy, model_type
from genclass.errors import GenclassError
from genclass.families import UNNAMED, System, plugin_of
from genclass.files import reading, write_atomically
from genclass.scores.shards import Shard
from genclass.section import PositiveInt, Section, Sha256
from genclass.text import canonical_json, digest


class Spec(Section):
    """A cell's spec. Sections are as the config has them, without checkpoints and defaults."""

    seed: int
    dataset: str  # the name: draws depend on it
    image_list: Sha256
    border: int = 0  # pixels that are cut off each side of an image before anything else
    candidates: list[int]  # class ids, sorted
    image_size: PositiveInt
    network: dict[str, Any]
    encoder: dict[str, Any] | None = None
    classifier: dict[str, Any] = {}
    strategy: dict[str, Any] | None = None  # None: exhaustive
    budget: PositiveInt | None = None  # trials of a race, which depends on it; None: any budget
    files: dict[str, str]  # what a checkpoint is for -> the sha256 of its file
    versions: dict[str, int]  # of family and encoder
    plugin: Sha256 | None = None  # of the file that the family stands in

    def __reduce__(self) -> tuple[Any, ...]:
        """By its text: the types of `model` are made anew in a process of its own."""
        return Spec.parse, (self.text, "spec")

    @cached_property
    def text(self) -> str:
        """The canonical JSON."""
        return canonical_json(self.model_dump(mode="json", exclude_defaults=True))

    @cached_property
    def sha256(self) -> str:
        return digest(self.text)

    @property
    def races(self) -> bool:
        """Are classes left out on the way?"""
        return self.budget is not None

    @cached_property
    def exhaustive(self) -> Spec:
        """The same without a race: of the images of the cell that are scored exhaustively."""
        if not self.races:
            return self
        return Spec.model_validate(self.model_dump(exclude={"strategy", "budget"}))

    def of(self, shard: Shard) -> Spec:
        """Under which of the two a shard of the cell is scored."""
        return self if shard.race else self.exhaustive

    @cached_property
    def model(self) -> ScoredModel:
        """The sections, typed.

        Raises:
            GenclassError: its family is not known here, or no longer has such options.
        """
        raw: dict[str, Any] = {
            "network": self.network | {"checkpoint": UNNAMED},
            "classifier": self.classifier,
            "image_size": self.image_size,
        }
        if self.encoder is not None:
            raw["encoder"] = self.encoder | {"checkpoint": UNNAMED}
        if self.strategy is not None:
            raw["strategy"] = self.strategy
        what = f"spec {self.sha256[:12]}"
        if not isinstance(self.network.get("architecture"), str):
            raise GenclassError(f"{what}: its network has no architecture: delete it and rerun")
        try:
            model = model_type(self.network["architecture"], ScoredModel).model_validate(raw)
        except ValidationError as error:
            raise GenclassError(
                f"{what}: no model of this version of genclass "
                f"({error.errors()[0]['msg']}): delete it and rerun"
            ) from None
        classes = model.network.classes
        if self.candidates[0] < 0 or self.candidates[-1] >= classes:
            raise GenclassError(
                f"{what}: class {self.candidates[-1]} is a candidate, but the network knows "
                f"{classes} classes: delete it and rerun"
            )
        return model

    @property
    def system(self) -> System:
        return self.model.system

    @property
    def schedule(self) -> Strategy:
        return self.model.strategy

    def write(self, path: str | Path) -> None:
        write_atomically(path, self.text)

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        """
        Raises:
            GenclassError: the file is missing or no spec.
        """
        try:
            with reading(path, "spec", "rerun the workflow"):
                text = Path(path).read_text(encoding="utf-8")
            return cls.parse(text, str(path))
        except UnicodeDecodeError:
            raise GenclassError(f"{path}: no spec of this version: delete it and rerun") from None

    @classmethod
    def parse(cls, text: str, where: str) -> Spec:
        """
        Raises:
            GenclassError: the text is no spec.
        """
        try:
            spec = cls.model_validate_json(text)
        except ValidationError:
            raise GenclassError(f"{where}: no spec of this version: delete it and rerun") from None
        if not spec.candidates or spec.candidates != sorted({*spec.candidates}):
            raise GenclassError(
                f"{where}: its candidates are not in increasing order: delete it and rerun"
            )
        return spec


@dataclass(frozen=True)
class ScoredDataset:
    """What a dataset decides over a cell's scores.

    image_list: its sha256; candidates: class ids, increasing; border: pixels that are cut off each
    side of an image before anything else.
    """

    name: str
    image_list: str
    candidates: Sequence[int]
    border: int = 0


def specify(
    model: ScoredModel, dataset: ScoredDataset, files: Mapping[str, str], seed: int, trials: int
) -> Spec:
    """The spec of a model on a dataset.

    files: what each checkpoint is for -> its sha256; trials: the cell's budget, on which a race
    depends.

    Raises:
        GenclassError: a candidate is no class of the network.
    """
    system = model.system
    beyond = [c for c in dataset.candidates if c >= system.family.classes]
    if beyond:
        raise GenclassError(
            f"{dataset.name}: class {beyond[0]} is a candidate, but the "
            f"{system.family.architecture} network knows {system.family.classes} classes: correct "
            f"the dataset's labels"
        )
    return Spec(
        seed=seed,
        dataset=dataset.name,
        image_list=dataset.image_list,
        border=dataset.border,
        candidates=list(dataset.candidates),
        image_size=model.image_size,
        network=system.family.settings,
        encoder=system.encoder.settings if system.encoder else None,
        classifier=model.classifier.model_dump(mode="json", exclude_defaults=True),
        strategy=json.loads(model.strategy.model_dump_json(exclude_defaults=True))
        | {"kind": model.strategy.kind}
        if model.races
        else None,
        budget=trials if model.races else None,
        files=dict(files),
        versions=system.versions,
        plugin=plugin_of(system.family),
    )
