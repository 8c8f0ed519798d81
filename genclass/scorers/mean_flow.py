"""The arithmetic of MeanFlow's scores: minus a squared error of a velocity, at one time t.

z = (1 - t) x + t noise, as in SiT + REPA, and the target of every score is noise - x. What the
network is asked for, and what it is held against, differs:

* `start="zero"`, the official classifier: the average velocity from 0 to t, whose implied noise
  z + (1 - t) u is compared with the noise. An average velocity is held against an instantaneous
  one: no flow-matching error and no bound on the likelihood, and its weight (1 - t)^2 leaves
  late times nearly no say in the mean over trials, but most of it in a logsumexp.
* `start="time"`: r = t, the instantaneous velocity, with the same weight; the official restart
  script clamps the time of the interpolation but not the network's, `legacy_clamped_time` here.
* `mean_flow_loss`, the training loss, of which r is drawn: `interval_start`. The official draw
  is not the training's, which sorts a pair of times; it is the official one that is given here.

The official scripts run all of it in bfloat16, with weights trained for guidance where guidance
was on: their u at a class is then a guided one.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genclass.families.card import System
from genclass.families.dit import DIFFUSION_STEPS
from genclass.families.mean_flow import MeanFlowScoring
from genclass.models.meanflow import MeanFlow
from genclass.scorers.timestep import Noising, TimestepScorer

Start = Literal["zero", "time"]
Weighting = Literal["eps", "velocity", "x0"]

CLAMPED = (0.05, 0.95)  # where the restart scripts clamp the interpolation's time


@dataclass(frozen=True)
class MeanFlowNoising(Noising):
    """One time of the process; start: r, from which the network averages up to `time`."""

    start: float


def mean_flow_noising(
    time: float,
    start: Start,
    weighting: Weighting = "eps",
    legacy_clamped_time: bool = False,
) -> MeanFlowNoising:
    """How to noise at a time in [0, 1], what to tell the network, and what its error is worth.

    weighting: of which estimate the squared error is; the official scores have that of eps.
    legacy_clamped_time: noise and weigh as if the time were in [0.05, 0.95], but tell the network
    the time as it is.
    """
    noise = min(max(time, CLAMPED[0]), CLAMPED[1]) if legacy_clamped_time else time
    signal = 1 - noise
    weights = {"eps": signal**2, "velocity": 1.0, "x0": noise**2}
    return MeanFlowNoising(
        time, signal, noise, weights[weighting], start=0.0 if start == "zero" else time
    )


class MeanFlowScorer(TimestepScorer):
    """A MeanFlow with its autoencoder.

    The official score is the mean over the latent, this one, as all of the house, its sum.
    """

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        super().__init__(system, network, encoder, device)
        assert isinstance(system.options, MeanFlowScoring)
        self.flow = system.options

    def noising(self, timestep: int) -> MeanFlowNoising:
        flow = self.flow
        return mean_flow_noising(
            timestep / DIFFUSION_STEPS, flow.start, flow.weighting, flow.legacy_clamped_time
        )

    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        return noise - latent


def interval_start(time: float, uniform: float, normal: float) -> float:
    """r of the training loss at time t, from a uniform and a standard normal draw.

    In one case of four r = t, and `normal` is not used; else the lesser of sigmoid(normal - 0.4)
    and t.
    """
    if uniform >= 0.75:
        return time
    return min(1 / (1 + math.exp(0.4 - normal)), time)


@dataclass(frozen=True)
class Guidance:
    """Of the velocity that the training loss aims at, at times from `first` to `last`.

    omega (noise - x) + kappa u(z, t, t, class) + (1 - omega - kappa) u(z, t, t, null class).
    """

    omega: float = 1.0
    kappa: float = 0.0
    first: float = 0.0
    last: float = 0.8

    def acts_at(self, time: float) -> bool:
        return (self.omega, self.kappa) != (1, 0) and self.first <= time <= self.last


@dataclass(frozen=True)
class Interval:
    """From r, `start`, to t, `time`.

    legacy_clamped_time: the latent is noised as if the time were in [0.05, 0.95]; all else takes
    the time as it is, as the official script does.
    """

    start: float
    time: float
    legacy_clamped_time: bool = False


def mean_flow_loss(
    network: MeanFlow,
    latent: Tensor,
    noise: Tensor,
    interval: Interval,
    classes: Tensor,
    guidance: Guidance | None = None,
) -> Tensor:
    """Squared errors of the average velocity from r to t, by the identity that trains it.

    The target is v - (t - r) du/dt with v = noise - x, or the guided velocity, which is then
    also the direction in which z moves in du/dt.

    latent, noise: [1, channels, s, s]; classes: [c] long -> float32 [c, channels, s, s].
    """
    time, start, mixed = interval.time, interval.start, interval.time
    if interval.legacy_clamped_time:
        mixed = min(max(time, CLAMPED[0]), CLAMPED[1])
    dtype = next(network.parameters()).dtype
    noised = ((1 - mixed) * latent + mixed * noise).to(dtype)
    velocity = (noise - latent).expand(len(classes), -1, -1, -1)
    if guidance is not None and guidance.acts_at(time):
        null = classes.new_full((1,), network.config.classes)
        conditional = network.predict_classes(noised, time, classes).float()
        unconditional = network.predict_classes(noised, time, null).float()
        rest = 1 - guidance.omega - guidance.kappa
        velocity = guidance.omega * velocity + guidance.kappa * conditional + rest * unconditional
    average, derivative = network.predict_with_derivative(
        noised.expand_as(velocity), time, classes, start, velocity.to(dtype)
    )
    target = velocity - (time - start) * derivative.float()
    return (average.float() - target).square()
