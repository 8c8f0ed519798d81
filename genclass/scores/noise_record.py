"""The noise that a race was decided by, as it stands in files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from genclass.section import Section

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NoiseRecord(Section):
    """Of `genclass.racing.noise.Noise`, which says what the numbers mean."""

    scale: Above
    degrees_of_freedom: Above
    trial_weights: list[Above] | None = None
    own: list[Above] | None = None
    factors: list[list[float]] = []

    @model_validator(mode="after")
    def _of_one_budget(self) -> NoiseRecord:
        shape = [numbers for numbers in (self.trial_weights, self.own) if numbers is not None]
        if len({len(numbers) for numbers in (*shape, *self.factors)}) > 1 or len(shape) == 1:
            raise ValueError("its weights and variances are of unequal budgets")
        return self
