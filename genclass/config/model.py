"""Models: a network, how it scores classes, and how it spends its budget."""

from __future__ import annotations

import json
from functools import cache, cached_property
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, create_model

from genclass.config.strategy import ExhaustiveStrategy, Strategy
from genclass.errors import GenclassError
from genclass.families import ENCODERS, Encoder, Family, Scoring, System, family_of
from genclass.section import Part, PositiveInt, TrialCount
from genclass.text import did_you_mean


class ScoredModel(Part):
    """What decides over a model's scores. The types of its sections are those of its family."""

    network: Family
    encoder: Encoder | None = None
    classifier: Scoring
    strategy: Strategy = ExhaustiveStrategy()
    image_size: PositiveInt = 256  # pixels

    @cached_property
    def system(self) -> System:
        """What scores: everything that is asked of a family."""
        return System(self.network, self.encoder, self.classifier, self.image_size)

    @property
    def races(self) -> bool:
        """Are classes left out on the way?"""
        return self.strategy.kind != "exhaustive"


class ModelMachine(Part):
    """What only says how a machine does the work."""

    images_per_shard: PositiveInt | None = None  # None: shards.images
    class_batch: PositiveInt = 1000  # classes scored at once, at most; never changes a number
    race_share: Annotated[float, Field(gt=0, le=1)] | None = None  # of the passes, until measured


class Model(ScoredModel, ModelMachine):
    """One row of the tables."""

    title: str
    group: str = ""  # rows of one group stand together, e.g. L and XL
    trials: TrialCount  # the budget


M = TypeVar("M", bound=ScoredModel)


def model_type(architecture: str, base: type[M]) -> type[M]:
    """The type of a model's section, `base` (Model or ScoredModel), for one family.

    Raises:
        GenclassError: no family has this name, or its card names an encoder that there is not.
    """
    card = family_of(architecture)
    if unknown := [name for name in card.encoders if name not in ENCODERS]:
        raise GenclassError(
            f"family {card.__name__}: unknown encoder '{unknown[0]}': "
            f"{did_you_mean(unknown[0], ENCODERS)}"
        )
    return _typed(card, tuple(ENCODERS[name] for name in card.encoders), base)


@cache
def _typed(card: type[Family], encoders: tuple[type[Encoder], ...], base: type[M]) -> type[M]:
    encoder: Any = (None, None)
    if len(encoders) == 1:
        encoder = (encoders[0], ...)
    elif encoders:
        union: Any = encoders[0]
        for other in encoders[1:]:
            union = union | other
        encoder = (Annotated[union, Field(discriminator="architecture")], ...)
    fields: dict[str, Any] = {
        "network": (card, ...),
        "encoder": encoder,
        "classifier": (card.Options, Field(default_factory=card.Options)),
    }
    typed: type[M] = create_model(base.__name__, __base__=base, **fields)
    return typed


def parse_model(text: str) -> ScoredModel:
    """The typed sections of what `Model.text_of(ScoredModel)` wrote.

    Raises:
        GenclassError: it is something else, or of a family that is not known.
    """
    try:
        raw = json.loads(text)
        return model_type(raw["network"]["architecture"], ScoredModel).model_validate(raw)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise GenclassError(f"no section of a model: {text[:200]}") from None
