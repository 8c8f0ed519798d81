"""Diffusion and flow classifiers: minus the squared error of a denoiser; a trial is one timestep.

Both noise the same latent of an image at a timestep t, x_t = signal(t) x + noise(t) eps, let the
network guess under every class, and take - ||eps - guess||^2, summed over the latent, as the
score. Paper, section "Method"; DiT's schedule is the linear one of DDPM with 1000 steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genclass.config import DIFFUSION_STEPS
from genclass.config import DiffusionClassifier as DiffusionOptions
from genclass.config import FlowClassifier as FlowOptions
from genclass.data.images import center_crop, to_tensor
from genclass.errors import GenclassError
from genclass.models.autoencoder_kl import Autoencoder
from genclass.models.dit import DiT
from genclass.models.sit import SiT
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Classifier, Prepared, distinct


def linear_schedule() -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the cumulated alphas and of one minus them: float64 [1000] each.

    The linear schedule of DDPM and DiT, beta = 1e-4 .. 0.02.
    """
    cumulated = np.cumprod(1 - np.linspace(1e-4, 0.02, DIFFUSION_STEPS))
    return np.sqrt(cumulated), np.sqrt(1 - cumulated)


def timesteps(step_size: int) -> list[int]:
    """The official grid s//2, s//2 + s, ... < 1000, in the order of trials.

    Every prefix is spread evenly over the grid, so that the first k trials are a k-step
    classifier: grid places follow the binary van der Corput sequence 1/2, 1/4, 3/4, 1/8, ...
    The whole is the official set.
    """
    grid = range(step_size // 2, DIFFUSION_STEPS, step_size)
    order: dict[int, None] = {}
    index = 0
    while len(order) < len(grid):
        index += 1
        bits = f"{index:b}"
        order[int(len(grid) * int(bits[::-1], 2) / 2 ** len(bits))] = None
    return [grid[place] for place in order]


@dataclass(frozen=True)
class Noising:
    """One timestep of a process: x_t = signal x + noise eps, and what a guess's error is worth.

    time: what the network is told; weight: of the squared error of the network's own output.
    """

    time: float
    signal: float
    noise: float
    weight: float


class TimestepClassifier(Classifier):
    """A denoiser with its autoencoder. The network is in float32 or bfloat16, the rest float32."""

    options: DiffusionOptions | FlowOptions

    def __init__(
        self,
        network: DiT,
        autoencoder: Autoencoder,
        options: DiffusionOptions | FlowOptions,
        image_size: int,
        device: torch.device,
    ) -> None:
        """
        Raises:
            GenclassError: image size, autoencoder and network do not fit each other.
        """
        config, latent = network.config, image_size // autoencoder.stride
        if latent != config.latent_size or image_size % autoencoder.stride:
            raise GenclassError(
                f"image_size {image_size} with an autoencoder of stride {autoencoder.stride} "
                f"makes a latent of {latent} x {latent}, but the network reads "
                f"{config.latent_size} x {config.latent_size}: correct image_size or latent_size"
            )
        self.device = device
        self.options = options
        self.image_size = image_size
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        self.network = network.eval().to(device, self.dtype)
        self.autoencoder = autoencoder.to(device)
        if device.type == "cuda":  # measured: it pays there (`genclass bench`)
            self.network.compile_scoring()
        self.timesteps = timesteps(options.step_size)

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        pixels = to_tensor(center_crop(image, self.image_size)).unsqueeze(0).to(self.device)
        mean, deviation = self.autoencoder.encode(pixels)
        if self.options.latent == "sample":
            mean = mean + deviation * draws.normal(tuple(mean.shape), "latent").to(self.device)
        return Prepared(image, draws, mean * self.autoencoder.scaling)

    def score_trial(self, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
        return -self.squared_errors(prepared, trial, classes).flatten(1).sum(dim=1)

    @torch.inference_mode()
    def score_pairs(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        tokens: int | None = None,
    ) -> Tensor:
        assert tokens is None, "a timestep has no tokens"
        pairs, which = distinct(prepared, trials)
        which = which.to(self.device, non_blocking=True)
        latents = torch.cat([self._latent(image) for image, _ in pairs])
        noise = torch.cat([self._noise(image, trial) for image, trial in pairs])
        steps = [astuple(self.noising(self.timesteps[trial])) for _, trial in pairs]
        table = torch.tensor(steps, dtype=torch.float32).to(self.device, non_blocking=True)
        time, signal, strength, weight = table.T
        noised = signal.view(-1, 1, 1, 1) * latents + strength.view(-1, 1, 1, 1) * noise
        guess = self.network.predict(noised.to(self.dtype)[which], time[which], classes).float()
        errors = (guess - self.target(latents, noise)[which]) ** 2
        return -weight[which] * errors.flatten(1).sum(dim=1)

    @torch.inference_mode()
    def squared_errors(self, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
        """The weighted squared errors over the latent: float32 [classes, channels, s, s]."""
        latent, noise = self._latent(prepared), self._noise(prepared, trial)
        step = self.noising(self.timesteps[trial])
        noised = (step.signal * latent + step.noise * noise).to(self.dtype)
        guess = self.network.predict_classes(noised, step.time, classes).float()
        return step.weight * (guess - self.target(latent, noise)) ** 2

    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        pair = torch.tensor([one, other], device=self.device)
        errors = [self.squared_errors(prepared, trial, pair).sum(dim=1).cpu() for trial in trials]
        mean = torch.stack(errors).mean(dim=0)  # [2, s, s]
        return mean[1] - mean[0]

    def _latent(self, prepared: Prepared) -> Tensor:
        assert prepared.encoded is not None
        return prepared.encoded

    def _noise(self, prepared: Prepared, trial: int) -> Tensor:
        """The noise of a trial, shaped like the latent."""
        own = trial if self.options.noise == "per_trial" else None
        noise = prepared.draws.normal(tuple(self._latent(prepared).shape), "noise", own)
        return noise.to(self.device, non_blocking=True)

    @abstractmethod
    def noising(self, timestep: int) -> Noising:
        """The process at a timestep of the grid 0 .. 999."""

    @abstractmethod
    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        """What the network should have said."""


class DiffusionClassifier(TimestepClassifier):
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


class FlowClassifier(TimestepClassifier):
    """SiT: the network guesses the velocity on the straight line from noise to data.

    SiT has x_t = t x + (1-t) eps and the velocity x - eps; SiT + REPA runs the other way, with
    x_t = (1-t) x + t eps and the velocity eps - x. In both, the error of eps is `signal` times
    that of the velocity, and the error of x0 is `noise` times it.
    """

    options: FlowOptions

    def noising(self, timestep: int) -> Noising:
        time = timestep / DIFFUSION_STEPS
        signal = 1 - time if self._reversed else time
        noise = 1 - signal
        weights = {"eps": signal**2, "velocity": 1.0, "x0": noise**2}
        told = 0.0 if self.options.legacy_zero_time else time
        return Noising(told, signal, noise, weights[self.options.weighting])

    def target(self, latent: Tensor, noise: Tensor) -> Tensor:
        return noise - latent if self._reversed else latent - noise

    @property
    def _reversed(self) -> bool:
        assert isinstance(self.network, SiT)
        return bool(self.network.config.aligned_to)  # REPA's convention


_SCHEDULE = linear_schedule()
