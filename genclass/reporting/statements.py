"""What the paper claims, as data: reports/claims.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from genclass.errors import GenclassError
from genclass.families import Role
from genclass.reporting.paper import REPORTS, Paper
from genclass.section import Aggregation, Section


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Side(Section):
    """Which models stand on one side of a claim, and how they are asked.

    Without a role (of a `second` only) it is the model of the first side.
    """

    role: Annotated[tuple[Role, ...], BeforeValidator(_listed)] = ()
    size: str | None = None
    budget: Literal["whole", "one"] = "whole"
    aggregation: Aggregation = "mean_log_p"
    paper: str | None = None  # the row of reports/paper.yaml


class Source(Section):
    """Where the paper says so: its table, and who told (a key of paper.yaml's `sources`)."""

    table: str
    told: str = Field(alias="from")


class Statement(Section):
    """One claim: `first` is more accurate (or cheaper) than `second` on these test sets."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    statement: str
    first: Side
    second: Side
    datasets: Annotated[list[str], Field(min_length=1)]
    instead: list[str] = []  # of a config that has none of them; []: its main table's columns
    direction: Literal["higher", "not_lower"] = "higher"
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    measure: Literal["accuracy", "cost"] = "accuracy"
    difference: float | None = None
    source: Source

    @model_validator(mode="after")
    def _sensible(self) -> Statement:
        if not self.first.role:
            raise ValueError("first: give it a role")
        if (self.direction == "not_lower") != bool(self.margin):
            raise ValueError("direction not_lower, and no other, needs a margin over 0")
        if self.same_model and self.measure == "cost":
            raise ValueError("measure cost: second needs a role")
        return self

    @property
    def same_model(self) -> bool:
        """Is one model compared with itself, at another budget or aggregation?"""
        return not self.second.role


class Statements(Section):
    """Everything in reports/claims.yaml."""

    claims: list[Statement]

    @classmethod
    def load(cls, paper: Paper, path: Path = REPORTS / "claims.yaml") -> Statements:
        """Read and check the file.

        Raises:
            GenclassError: it is missing, no YAML, or holds something wrong: a source or a row that
                reports/paper.yaml does not know, or one name twice.
        """
        try:
            found = cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise GenclassError(f"{path}: cannot read it: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise GenclassError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise GenclassError(f"{path}: '{key}': {first['msg']}") from None
        names = [claim.name for claim in found.claims]
        for claim in found.claims:
            if names.count(claim.name) > 1:
                raise GenclassError(f"{path}: two claims are called {claim.name}: rename one")
            if claim.source.told not in paper.sources:
                raise GenclassError(
                    f"{path}: {claim.name}: source '{claim.source.told}' is not in paper.yaml: "
                    f"one of {', '.join(paper.sources)}"
                )
            for side in (claim.first, claim.second):
                try:
                    paper.accuracy_of(side.paper, "")
                except GenclassError as error:
                    raise GenclassError(f"{path}: {claim.name}: {error}") from None
        return found
