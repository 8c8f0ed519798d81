"""MeanFlow: a SiT that guesses an average velocity between two times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from genclass.families.card import MadeUp, Role, Work
from genclass.families.dit import DIFFUSION_STEPS, SINUSOIDS, LatentTransformer, TimestepScoring
from genclass.families.operations import linear

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.models.meanflow import MeanFlowConfig
    from genclass.scorers.scorer import Scorer


class MeanFlowScoring(TimestepScoring):
    """The squared error of an average velocity, from `start` to the timestep of a trial.

    The defaults are the official script's: the average from time zero, 10 timesteps, a noise each.
    """

    step_size: Annotated[int, Field(ge=1, le=DIFFUSION_STEPS)] = 100
    noise: Literal["shared", "per_trial"] = "per_trial"
    start: Literal["zero", "time"] = "zero"  # time: the instantaneous velocity at the timestep
    legacy_clamped_time: bool = False  # noised as if in [0.05, 0.95], told to the network as it is


class MeanFlow(LatentTransformer):
    """MeanFlow in the layout of SiT's checkpoints."""

    Options = MeanFlowScoring
    made_up = MadeUp(level=-1500.0, trial_noise=5.0)
    benched = ({"size": "XL"},)

    architecture: Literal["mean_flow"]
    # Twice as many output channels, as where training began from SiT's weights: XL/2 was released
    # so. None: as the checkpoint has it.
    learn_sigma: bool | None = None

    @property
    def _config(self) -> MeanFlowConfig:
        from genclass.models.meanflow import MeanFlowConfig

        return MeanFlowConfig(**self.sizes, learn_sigma=bool(self.learn_sigma))

    def network(self) -> nn.Module:
        from genclass.models.meanflow import MeanFlow as Network

        return Network(self._config)

    def fitted(self, weights: Mapping[str, Tensor]) -> Self:
        from genclass.models.meanflow import fitted

        if self.learn_sigma is not None:
            return self
        learn_sigma = fitted(self._config, weights).learn_sigma
        return self.model_copy(update={"learn_sigma": learn_sigma})

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.mean_flow import MeanFlowScorer

        return MeanFlowScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import mean_flow

        return mean_flow

    def role(self, options: TimestepScoring) -> Role:
        return "flow"

    def work(self, options: TimestepScoring) -> Work:
        """A SiT's, and the embedding of a second time."""
        width = self.shape.width
        second = linear(SINUSOIDS, width) + linear(width, width)
        return Work(super().work(options).score + second)
