"""Diffusion and flow classifiers: minus the squared error of a denoiser; a trial is one timestep.

Both noise the same latent of an image at a timestep t, x_t = signal(t) x + noise(t) eps, let the
network guess under every class, and take - ||eps - guess||^2, summed over the latent, as the
score. Paper, section "Method"; DiT's schedule is the linear one of DDPM with 1000 steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop, to_tensor
from genclass.errors import GenclassError
from genclass.families.card import System
from genclass.families.dit import DIFFUSION_STEPS, FlowScoring, TimestepScoring
from genclass.models.autoencoder_kl import posterior
from genclass.models.objectives import linear_schedule
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, Scorer, distinct
from genclass.scorers.spread import spread


def timesteps(step_size: int) -> list[int]:
    """The official grid s//2, s//2 + s, ... < 1000, in the order of trials.

    Every prefix is spread evenly over the grid, so that the first k trials are a k-step
    classifier. The whole is the official set.
    """
    grid = range(step_size // 2, DIFFUSION_STEPS, step_size)
    return [grid[place] for place in spread(len(grid))]


@dataclass(frozen=True)
class Noising:
    """One timestep of a process: x_t = signal x + noise eps, and what a guess's error is worth.

    time: what the network is told; weight: of the squared error of the network's own output. What a
    subclass adds, the network is told, too, after the classes.
    """

    time: float
    signal: float
    noise: float
    weight: float


class TimestepScorer(Scorer):
    """A denoiser with its autoencoder. The network is in float32 or bfloat16, the rest float32."""

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        config, image_size = network.config, system.image_size
        latent = image_size // encoder.stride
        if latent != config.latent_size or image_size % encoder.stride:
            raise GenclassError(
                f"image_size {image_size} with an autoencoder of stride {encoder.stride} "
                f"makes a latent of {latent} x {latent}, but the network reads "
                f"{config.latent_size} x {config.latent_size}: correct image_size or latent_size"
            )
        assert isinstance(system.options, TimestepScoring)
        self.options = system.options
        self.system = system
        self.device = device
        self.dtype: torch.dtype = getattr(torch, self.options.dtype)
        self.network = network.eval().to(device, self.dtype)
        self.encoder = encoder.eval().to(device)
        self.timesteps = timesteps(self.options.step_size)

    def compile(self) -> None:
        self.network.compile_scoring()

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        pixels = to_tensor(center_crop(image, self.system.image_size)).unsqueeze(0)
        mean, deviation = posterior(self.encoder, pixels.to(self.device))
        if self.options.latent == "sample":
            mean = mean + deviation * draws.normal(tuple(mean.shape), "latent").to(self.device)
        return Prepared(image, draws, mean * self.encoder.scaling)

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        if len(pairs) == 1:
            return -self.squared_errors(*pairs[0], classes).flatten(1).sum(dim=1)
        places = torch.tensor(which).to(self.device, non_blocking=True)
        latents = torch.cat([image.encoded for image, _ in pairs])
        noise = torch.cat([self.noise(image, trial) for image, trial in pairs])
        steps = [astuple(self.noising(self.timesteps[trial])) for _, trial in pairs]
        table = torch.tensor(steps, dtype=torch.float32).to(self.device, non_blocking=True)
        time, signal, strength, weight, *more = table.T
        noised = signal.view(-1, 1, 1, 1) * latents + strength.view(-1, 1, 1, 1) * noise
        told = [column[places] for column in more]
        noised = noised.to(self.dtype)[places]
        guess = self.network.predict(noised, time[places], classes, *told).float()
        errors = (guess - self.target(latents, noise)[places]) ** 2
        return -weight[places] * errors.flatten(1).sum(dim=1)

    def squared_errors(self, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
        """The weighted squared errors over the latent: float32 [classes, channels, s, s]."""
        latent, noise = prepared.encoded, self.noise(prepared, trial)
        step = self.noising(self.timesteps[trial])
        noised = (step.signal * latent + step.noise * noise).to(self.dtype)
        told = astuple(step)[len(fields(Noising)) :]
        guess = self.network.predict_classes(noised, step.time, classes, *told).float()
        errors: Tensor = step.weight * (guess - self.target(latent, noise)) ** 2
        return errors

    @torch.inference_mode()
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        pair = torch.tensor([one, other], device=self.device)
        errors = [self.squared_errors(prepared, trial, pair).sum(dim=1).cpu() for trial in trials]
        mean = torch.stack(errors).mean(dim=0)  # [2, s, s]
        return mean[1] - mean[0]

    def noise(self, prepared: Prepared, trial: int) -> Tensor:
        """The noise of a trial, shaped like the latent."""
        own = trial if self.options.noise == "per_trial" else None
        noise = prepared.draws.normal(tuple(prepared.encoded.shape), "noise", own)
        return noise.to(self.device, non_blocking=True)

    @abstractmethod
    def noising(self, timestep: int) -> Noising:
        """The process at a timestep of the grid 0 .. 999."""

    @abstractmethod
    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        """What the network should have said."""


class DiffusionScorer(TimestepScorer):
    """DiT: the network guesses eps.

    Weights: the error of x0 is (noise / signal) times that of eps, the error of the velocity
    v = signal eps - noise x0 is 1 / signal times it, since signal^2 + noise^2 = 1.
    """

    def noising(self, timestep: int) -> Noising:
        signal, noise = (float(table[timestep]) for table in _SCHEDULE)
        weights = {"eps": 1.0, "velocity": 1 / signal**2, "x0": (noise / signal) ** 2}
        return Noising(timestep, signal, noise, weights[self.options.weighting])

    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        return noise


class FlowScorer(TimestepScorer):
    """SiT: the network guesses the velocity on the straight line from noise to data.

    SiT has x_t = t x + (1-t) eps and the velocity x - eps; SiT + REPA runs the other way, with
    x_t = (1-t) x + t eps and the velocity eps - x. In both, the error of eps is `signal` times
    that of the velocity, and the error of x0 is `noise` times it.
    """

    def noising(self, timestep: int) -> Noising:
        time = timestep / DIFFUSION_STEPS
        signal = 1 - time if self._reversed else time
        noise = 1 - signal
        weights = {"eps": signal**2, "velocity": 1.0, "x0": noise**2}
        assert isinstance(self.options, FlowScoring)
        told = 0.0 if self.options.legacy_zero_time else time
        return Noising(told, signal, noise, weights[self.options.weighting])

    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        return noise - latent if self._reversed else latent - noise

    @property
    def _reversed(self) -> bool:
        return bool(self.network.config.aligned_to)  # REPA's convention


_SCHEDULE = linear_schedule()
