"""A family of one's own: class-conditional Gaussians of an image's pixels.

Every class has a mean image; all share one covariance, of low rank beside a diagonal. A generative
classifier in its plainest form: examples/gaussians.md explains it line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genclass import Family, Prepared, Role, Scorer, Scoring, Trial, Work

if TYPE_CHECKING:  # torch is imported inside functions: a plan, a table or a claim needs none
    import torch
    from torch import Tensor, nn


class PixelNoise(Scoring):
    """log p of the pixels, each trial with its own little noise on them."""

    noise: Annotated[float, Field(ge=0)] = 0.1  # its standard deviation; pixels are in [-1, 1]


class Gaussians(Family):
    Options = PixelNoise
    likelihood = True

    architecture: Literal["gaussians"]
    side: int = 8  # of an image, in pixels
    rank: int = 8  # of the covariance, besides its diagonal

    def role(self, options: PixelNoise) -> Role:
        return "other"  # it plays no part in the paper's claims

    def trial(self, options: PixelNoise) -> Trial:
        return Trial("draw", limit=None if options.noise else 1)

    def work(self, options: PixelNoise) -> Work:
        return Work(score=2 * self.values**2)  # one product with the whitening matrix

    @property
    def values(self) -> int:
        return 3 * self.side**2

    def network(self) -> nn.Module:
        import torch
        from torch import nn

        module = nn.Module()
        module.mean = nn.Parameter(torch.zeros(self.classes, self.values))
        module.factor = nn.Parameter(0.1 * torch.randn(self.values, self.rank))
        module.log_diagonal = nn.Parameter(torch.zeros(self.values))
        return module

    def scorer(self) -> type[Scorer]:
        return GaussianScorer

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        """The mean of -log p of a batch; only a config that trains its own networks asks for it."""
        import torch
        from torch.distributions import LowRankMultivariateNormal as Gaussian

        def loss() -> Tensor:
            rows = torch.randint(len(pixels), (training.batch,))
            mean, diagonal = network.mean[labels[rows]], network.log_diagonal.exp() + 1e-2
            log_p = Gaussian(mean, network.factor, diagonal).log_prob(pixels[rows].flatten(1))
            return -log_p.mean()

        return loss


class GaussianScorer(Scorer):
    def __init__(self, system: Any, network: Any, encoder: Any, device: torch.device) -> None:
        import torch

        self.system, self.device = system, device
        with torch.inference_mode():
            factor, diagonal = network.factor, network.log_diagonal.exp() + 1e-2
            root = torch.linalg.cholesky(factor @ factor.T + torch.diag(diagonal))
            inverse = torch.linalg.solve_triangular(root, torch.eye(len(root)), upper=False)
            self.log_volume = root.diagonal().log().sum().to(device)
            self.whitening, self.mean = inverse.to(device), network.mean.to(device)

    def prepare(self, image: Any, draws: Any) -> Prepared:
        from genclass.data.images import center_crop, to_tensor

        pixels = to_tensor(center_crop(image, self.system.image_size)).flatten()
        return Prepared(image, draws, pixels)

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        import torch

        noise, drawn = self.system.options.noise, {}
        for image, trial in zip(prepared, trials, strict=True):
            if (id(image), trial) not in drawn:  # all classes of an image see the same draw
                draw = image.draws.normal(image.encoded.shape, "pixels", trial)
                drawn[id(image), trial] = image.encoded + noise * draw
        pixels = torch.stack(
            [drawn[id(image), trial] for image, trial in zip(prepared, trials, strict=True)]
        ).to(self.device)
        distance = torch.nn.functional.linear(pixels - self.mean[classes], self.whitening)
        return -0.5 * distance.square().sum(dim=1) - self.log_volume
