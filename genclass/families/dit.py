"""DiT and SiT: transformers over image latents that guess noise, or a velocity, at a timestep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genclass.families.card import Family, MadeUp, Role, Scoring, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.size import Size
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, Size] = {
    "S": Size(layers=12, heads=6, width=384),
    "B": Size(layers=12, heads=12, width=768),
    "L": Size(layers=24, heads=16, width=1024),
    "XL": Size(layers=28, heads=16, width=1152),
}

DIFFUSION_STEPS = 1000  # the linear schedule of DiT, and the grid that SiT's t is read from
SINUSOIDS = 256  # that a timestep is told by


class TimestepScoring(Scoring):
    """Minus the squared error of a guess from a noised latent, at one timestep a trial."""

    step_size: Annotated[int, Field(ge=1, le=DIFFUSION_STEPS)] = 4
    noise: Literal["shared", "per_trial"] = "shared"
    latent: Literal["sample", "mean"] = "sample"
    weighting: Literal["eps", "velocity", "x0"] = "eps"

    @property
    def timesteps(self) -> int:
        """The size of the official grid s//2, s//2 + s, ... < 1000."""
        return len(range(self.step_size // 2, DIFFUSION_STEPS, self.step_size))


class FlowScoring(TimestepScoring):
    legacy_zero_time: bool = False  # the official SiT script's network always sees t = 0


class LatentTransformer(Family):
    """What DiT, SiT and SiT + REPA share."""

    Options = TimestepScoring
    encoders = ("autoencoder_kl",)
    likelihood = False
    made_up = MadeUp(level=-3000.0, trial_noise=1.2)

    size: Literal["S", "B", "L", "XL"] | Size
    patch: PositiveInt = 2
    latent_size: PositiveInt = 32
    channels: PositiveInt = 4

    @property
    def shape(self) -> Size:
        return self.size if isinstance(self.size, Size) else SIZES[self.size]

    @property
    def sizes(self) -> dict[str, Any]:
        """What the networks' configs share."""
        return self.shape.model_dump() | {
            "patch": self.patch,
            "latent_size": self.latent_size,
            "channels": self.channels,
            "classes": self.classes,
        }

    def trial(self, options: TimestepScoring) -> Trial:
        return Trial("timestep", options.timesteps, exchangeable=False)

    def work(self, options: TimestepScoring) -> Work:
        """The first `channels` output channels only."""
        width, tokens = self.shape.width, (self.latent_size // self.patch) ** 2
        pixels = self.patch**2 * self.channels  # in a patch
        embedding = tokens * linear(pixels, width)
        conditioning = linear(SINUSOIDS, width) + linear(width, width)
        block = (
            linear(width, 6 * width)  # shifts, scales and gates, once for all tokens
            + tokens * (linear(width, 4 * width) + 2 * linear(width, 4 * width))
            + attention(tokens, tokens, width)
        )
        final = linear(width, 2 * width) + tokens * linear(width, pixels)
        return Work(embedding + conditioning + self.shape.layers * block + final)


class DiT(LatentTransformer):
    """DiT-XL/2 and its kin: the guess is of the noise."""

    benched = ({"size": "XL"},)

    architecture: Literal["dit"]

    def network(self) -> nn.Module:
        from genclass.models.dit import DiT as Network
        from genclass.models.dit import DiTConfig

        return Network(DiTConfig(**self.sizes))

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.timestep import DiffusionScorer

        return DiffusionScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import diffusion

        return diffusion

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import noise

        return noise(network, encoder, pixels, labels, training.batch)

    def role(self, options: TimestepScoring) -> Role:
        return "diffusion"


class SiT(LatentTransformer):
    """SiT-XL/2 and its kin: the guess is of the velocity."""

    Options = FlowScoring

    architecture: Literal["sit"]

    def network(self) -> nn.Module:
        from genclass.models.sit import SiT as Network
        from genclass.models.sit import SiTConfig

        return Network(SiTConfig(**self.sizes))

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.timestep import FlowScorer

        return FlowScorer

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import velocity

        return velocity(network, encoder, pixels, labels, training.batch)

    def role(self, options: TimestepScoring) -> Role:
        return "flow"


class SiTREPA(SiT):
    """SiT + REPA: time runs the other way, and the checkpoint has projectors."""

    architecture: Literal["sit_repa"]  # type: ignore[assignment]
    aligned_to: list[PositiveInt] = [768]  # widths of the encoders it was aligned to
    projector_width: PositiveInt = 2048

    def network(self) -> nn.Module:
        from genclass.models.sit import SiT as Network
        from genclass.models.sit import SiTConfig

        return Network(
            SiTConfig(
                **self.sizes,
                learn_sigma=False,
                aligned_to=tuple(self.aligned_to),
                projector_width=self.projector_width,
            )
        )
