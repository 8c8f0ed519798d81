"""MeanFlow, the transformer of SiT trained to predict an average velocity between two times.

The network of "Mean Flows for One-step Generative Modeling" in PyTorch
(https://github.com/zhuyu-cs/MeanFlow, models/sit.py), with the parameter names of its released
checkpoints.

On the line z_t = (1 - t) x + t noise, t = 0 being data, the instantaneous velocity is noise - x,
and u(z, r, t) is the average one from r to t: z_r = z_t - (t - r) u. With r = t the two are the
same, and the network is used as a SiT.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from genclass.models.dit import DiT, DiTConfig, TimestepEmbedding, as_times


@dataclass(frozen=True)
class MeanFlowConfig(DiTConfig):
    """Shape of a MeanFlow; `MeanFlowConfig(layers=24, heads=16, width=1024)` is the released L/2.

    The released XL/2, made from SiT's weights, has `learn_sigma=True`: twice the channels, of
    which the first half counts. See `fitted`.
    """

    learn_sigma: bool = False


def fitted(config: MeanFlowConfig, weights: Mapping[str, Tensor]) -> MeanFlowConfig:
    """The config with as many output channels as a checkpoint has.

    Raises:
        ValueError: they are neither the latent's channels nor twice as many.
    """
    name = "final_layer.linear.weight"
    rows = len(weights[name]) if name in weights else 0
    for learn_sigma in (False, True):
        found = replace(config, learn_sigma=learn_sigma)
        if rows == found.patch**2 * found.output_channels:
            return found
    raise ValueError(
        f"{name} has {rows} rows: not {config.channels} or {2 * config.channels} channels of a "
        f"{config.patch} x {config.patch} patch"
    )


class MeanFlow(DiT):
    """A DiT that is told a time t and a span t - r, and whose outputs are velocities."""

    config: MeanFlowConfig

    def __init__(self, config: MeanFlowConfig) -> None:
        super().__init__(config)
        self.r_embedder = TimestepEmbedding(config.width)
        self.r_embedder.initialise()

    def forward(
        self, x: Tensor, t: Tensor | float, classes: Tensor, r: Tensor | float | None = None
    ) -> Tensor:
        """As `predict`."""
        return self.predict(x, t, classes, r)

    def predict(
        self, x: Tensor, t: Tensor | float, classes: Tensor, r: Tensor | float | None = None
    ) -> Tensor:
        """The average velocity from r to t; without r the instantaneous one at t.

        x: [b, channels, s, s]; t, r: [b] or one number, in [0, 1]; classes: [b] long -> like x.
        """
        return self._outputs(x, self._times(x, t, r), classes, self.config.channels)

    @torch.no_grad()
    def predict_classes(
        self, x: Tensor, t: Tensor | float, classes: Tensor, r: Tensor | float | None = None
    ) -> Tensor:
        """The average velocity at one noised latent under each of many classes.

        x: [1, channels, s, s]; t, r: one number; classes: [c] long -> [c, channels, s, s].
        """
        if len(x) != 1:
            raise ValueError(f"one noised latent is needed for all classes, got {len(x)}")
        return self.predict(x, t, classes, r)

    @torch.no_grad()
    def predict_with_derivative(
        self,
        x: Tensor,
        t: Tensor | float,
        classes: Tensor,
        r: Tensor | float,
        direction: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """u(x, r, t) and its derivative along (direction, 0, 1) in (x, r, t).

        By forward-mode differentiation, whose attention has no fused kernel.

        x, direction: [b, channels, s, s]; t, r: [b] or one number; classes: [b] long
        -> two tensors like x.
        """
        times = self._times(x, t, r)
        # t moves and r does not: the span moves with t. Never through compiled code.
        with sdpa_kernel(SDPBackend.MATH):
            found = torch.func.jvp(
                lambda x, times: DiT._outputs(self, x, times, classes, self.config.channels),
                (x.contiguous(), times),
                (direction.contiguous(), torch.ones_like(times)),
            )
        return found[0], found[1]

    def _times(self, x: Tensor, t: Tensor | float, r: Tensor | float | None) -> Tensor:
        """Time and span, float32 [b or 1, 2]."""
        time = as_times(t, x)
        span = torch.zeros_like(time) if r is None else time - as_times(r, x)
        return torch.stack(torch.broadcast_tensors(time, span), dim=1)

    def _conditioning(self, t: Tensor, classes: Tensor) -> Tensor:
        """t: time and span, [b or 1, 2]."""
        conditioning: Tensor = (
            self.t_embedder(t[:, 0]) + self.r_embedder(t[:, 1]) + self.y_embedder(classes)
        )
        return conditioning
