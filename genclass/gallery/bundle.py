"""What `explain` writes of two models on one dataset, and the gallery shows. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, StringConstraints, model_validator

from genclass.files import read_json
from genclass.section import Name, PositiveInt, Sha256, Stored

Picture = Annotated[str, StringConstraints(pattern=r"^data:image/webp;base64,[A-Za-z0-9+/=]*$")]


class Answer(Stored):
    """What a model said of an image. evidence: [grid][grid], and its map; None: it cannot say."""

    predicted: NonNegativeInt
    posterior: Annotated[float, Field(ge=0, le=1 + 1e-9)] | None  # None: of a race
    evidence: list[list[float]] | None
    map: Picture | None


class Entry(Stored):
    """An image that one model classifies right; label and mistaken_for are class ids."""

    image_id: str
    right: Name
    label: NonNegativeInt
    mistaken_for: NonNegativeInt
    thumbnail: Picture | None  # None: the image may not be shown
    answers: dict[Name, Answer]


class Bundle(Stored):
    """Everything, under two specs; `images`: how many both have predictions of."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=2, max_length=2)]
    specs: dict[Name, Sha256]
    budgets: dict[Name, PositiveInt]
    images: NonNegativeInt
    right_alone: dict[Name, NonNegativeInt]
    entries: list[Entry]

    @model_validator(mode="after")
    def _is_of_its_models(self) -> Bundle:
        both = set(self.models)
        of_models: list[Mapping[str, Any]] = [
            self.specs,
            self.budgets,
            self.right_alone,
            *(e.answers for e in self.entries),
        ]
        if any(set(part) != both for part in of_models):
            raise ValueError("its parts are not of the same two models")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Bundle:
        """
        Raises:
            GenclassError: the file is missing, or is none.
        """
        return read_json(path, cls, "explanation of this version", "delete it and rerun")
