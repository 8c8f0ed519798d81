"""A card: everything that anything outside its network and scorer asks about a family.

No torch: planning a run, a table or a claim asks, too. What needs torch is imported inside the
functions that need it.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from genclass.errors import GenclassError
from genclass.section import Dtype, Name, PositiveInt, Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

Role = Literal[
    "raster", "next-scale", "any-order", "masked", "diffusion", "flow", "discriminative", "other"
]
ROLES: dict[Role, str] = {  # what a family plays in the paper's comparison, and its title
    "raster": "raster autoregressive",
    "next-scale": "next-scale autoregressive",
    "any-order": "any-order autoregressive",
    "masked": "masked",
    "diffusion": "diffusion",
    "flow": "flow",
    "discriminative": "discriminative",
    "other": "other generative",  # none of the paper's claims names it
}
assert tuple(ROLES) == get_args(Role)

UNNAMED = "unnamed"  # the checkpoint of a card whose files are not asked for by their names


@dataclass(frozen=True)
class Trial:
    """What one trial of a family is.

    noun: what it is called, in the singular (its plural has an s); limit: how many different ones
    there are, None where every trial is a new draw; exchangeable: are all drawn alike, so that any
    of them says as much as any other? Timesteps are not.
    """

    noun: str
    limit: int | None = None
    exchangeable: bool = True

    def counted(self, number: int) -> str:
        """'1 order', '20 orders'."""
        return f"{number} {self.noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Work:
    """The necessary floating-point operations of scoring, two per multiply-accumulate.

    Attention that is causal is counted as what is necessary: half a square.

    image: once an image, without the encoder: what no trial and no class changes. score: of one
    class in one trial. parts: of a score of the first part, the first two parts, ... of a trial
    alone, where a trial has parts (scales); the last is the whole. Where trials cost differently
    much (some tokens are hidden), all is the mean over them.
    """

    score: int
    image: int = 0
    parts: tuple[int, ...] = ()

    @property
    def passes_an_image(self) -> int:
        """Forward passes that are made once an image: one where nothing is left to score."""
        return 0 if self.score else 1

    def passes(self, images: int, scores: int) -> int:
        """Forward passes of the network behind so many images and scores."""
        return images * self.passes_an_image if self.passes_an_image else scores

    def operations(self, images: int, scores: int, part: int | None = None) -> int:
        """Of so many images and scores; part: the scores are of the first parts alone."""
        return images * self.image + scores * (self.parts[part - 1] if part else self.score)


@dataclass(frozen=True)
class MadeUp:
    """How a rehearsal makes up scores: each class's level, and the noise of a trial around it."""

    level: float
    trial_noise: float


class Scoring(Section):
    """How a family scores classes: the `classifier` section of a model."""

    speed: ClassVar[tuple[str, ...]] = ("dtype",)  # the options that decide how fast it is

    dtype: Dtype = "float32"  # of the network; encoders are always in float32


class Card(Section):
    """What families and encoders share: a section of the config, and where its code is."""

    version: ClassVar[int] = 1  # raised by hand when its numbers may change
    library: ClassVar[str | None] = None  # a module that takes its time to import
    checkpoint_fields: ClassVar[tuple[str, ...]] = ("checkpoint",)  # the keys that name checkpoints

    architecture: str
    checkpoint: Name
    # Of the weights that stand in one file: a moving average of them, if there is one; or not.
    weights: Literal["averaged", "plain"] = "averaged"

    @property
    def checkpoints(self) -> dict[str, Name]:
        """The files that it needs: what each is for, and its name among the config's."""
        named = {key: getattr(self, key) for key in self.checkpoint_fields}
        return {
            "network" if key == "checkpoint" else key: name for key, name in named.items() if name
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The section as it decides over numbers: what stands at its default is left out."""
        return self.model_dump(
            mode="json", exclude_defaults=True, exclude={*self.checkpoint_fields}
        ) | {"architecture": self.architecture}

    @abstractmethod
    def network(self) -> nn.Module:
        """The network, with the weights that training starts from.

        Raises:
            ValueError: sizes that make no network.
        """

    def build(self) -> nn.Module:
        """`network`, and what is wrong with it in a line.

        Raises:
            GenclassError: sizes that make no network.
        """
        try:
            return self.network()
        except ValueError as error:
            raise GenclassError(f"{self.architecture}: {error}") from None

    def loaded(self, files: Mapping[str, Path], device: torch.device) -> nn.Module:
        """The network with its released weights.

        files: by what they are for, as `checkpoints` names them; device: where the weights that
        training starts from are drawn, a GPU does it at once.

        Raises:
            GenclassError: a checkpoint that does not fit.
        """
        from genclass.sources.checkpoints import fill, read_checkpoint

        weights = self.own(read_checkpoint(files["network"], self.weights))
        try:
            card = self.fitted(weights)
        except ValueError as error:
            raise GenclassError(f"{files['network']}: {error}: correct the config") from None
        with device:
            network = card.build()
        fill(network, weights, str(files["network"]))
        return network

    def fitted(self, weights: Mapping[str, Tensor]) -> Self:
        """The card, with what it leaves to the checkpoint.

        Raises:
            ValueError: the checkpoint has neither of what could be.
        """
        return self

    def own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of a released state dict that are the network's; others may stand beside them."""
        return weights

    def released(self, weights: dict[str, Tensor]) -> Mapping[str, Any]:
        """A state dict as the released file holds it: what the miniature writes."""
        return weights

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        """How the miniature trains it: the loss of a fresh batch, each time it is called.

        encoder: what the network reads images through, trained before (None: there is none);
        pixels: float32 [n, 3, side, side] in [-1, 1]; labels: int64 [n]; training: the config's
        section of it.

        Raises:
            GenclassError: the miniature does not train such a network.
        """
        raise GenclassError(f"the miniature trains no {self.architecture}")


class Encoder(Card):
    """What turns pixels into what a network reads."""

    def operations(self, image_size: int) -> int:
        """Necessary floating-point operations of encoding one image."""
        return 0


class Family(Card):
    """A network and a way to score classes with it; the fields are the network's options.

    A subclass has the config's tag as `architecture: Literal["..."]`, and says what follows.
    """

    Options: ClassVar[type[Scoring]] = Scoring  # of its way to score: the section `classifier`
    encoders: ClassVar[tuple[str, ...]] = ()  # architectures; (): the network reads pixels
    likelihood: ClassVar[bool]  # is a score log p(image | class)? else only its mean has a meaning
    made_up: ClassVar[MadeUp] = MadeUp(level=0.0, trial_noise=1.0)
    benched: ClassVar[tuple[dict[str, Any], ...]] = ()  # options of networks that bench measures
    benched_model: ClassVar[dict[str, Any]] = {}  # what stands beside them in a model's section

    classes: PositiveInt = 1000

    @property
    def size_name(self) -> str:
        """Of its network, for people: 'XL', '2x96'; networks of one name are compared."""
        return str(getattr(self, "size", ""))

    @abstractmethod
    def scorer(self) -> type[Scorer]:
        """What scores classes with the network; imported in a job only."""

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor] | None:
        """The official way to the same scores, for the bench: (scorer, prepared, trial, classes)
        -> float32 [classes]."""
        return None

    def official(self) -> Callable[[Any, Any, int, Tensor], Tensor] | None:
        """The same with all that the official script recomputes, in its precision, where that is
        another: the network is given in float32, with weights rounded to bfloat16."""
        return None

    @abstractmethod
    def role(self, options: Any) -> Role:
        """What it plays in the paper's comparison."""

    @abstractmethod
    def trial(self, options: Any) -> Trial:
        """What a trial is."""

    @abstractmethod
    def work(self, options: Any) -> Work:
        """What scoring costs."""


@dataclass(frozen=True)
class System:
    """A family with all its options: what scores, and all that is asked of it."""

    family: Family
    encoder: Encoder | None
    options: Scoring
    image_size: int

    @cached_property
    def role(self) -> Role:
        """
        Raises:
            GenclassError: the card names a role that nothing knows.
        """
        role = self.family.role(self.options)
        if role not in ROLES:
            raise GenclassError(
                f"family {self.family.architecture}: unknown role '{role}': one of: "
                f"{', '.join(ROLES)}"
            )
        return role

    @cached_property
    def trial(self) -> Trial:
        return self.family.trial(self.options)

    @cached_property
    def work(self) -> Work:
        """With the encoder's operations, once an image."""
        work = self.family.work(self.options)
        encoding = self.encoder.operations(self.image_size) if self.encoder else 0
        return Work(work.score, work.image + encoding, work.parts)

    @property
    def likelihood(self) -> bool:
        return self.family.likelihood

    @property
    def checkpoints(self) -> dict[str, Name]:
        """Every file that is needed: what it is for -> its name; those of the encoder too."""
        encoder = self.encoder.checkpoints if self.encoder else {}
        return self.family.checkpoints | {_of_encoder(part): name for part, name in encoder.items()}

    @property
    def versions(self) -> dict[str, int]:
        """Of the family and the encoder: raised by hand when their numbers may change."""
        cards = [self.family, self.encoder]
        return {card.architecture: card.version for card in cards if card}

    def import_libraries(self) -> None:
        """Import what `load` needs and takes its time: before a GPU is held for it."""
        self.family.scorer()
        for card in (self.family, self.encoder):
            if card is not None and card.library is not None:
                importlib.import_module(card.library)

    def load(self, files: Mapping[str, Path], device: torch.device) -> Scorer:
        """The scorer with its released weights, ready on the device.

        files: by what they are for, as `checkpoints` names them.

        Raises:
            GenclassError: a checkpoint that does not fit, or parts that do not fit each other.
        """
        import torch

        # Float32 is float32: TF32 convolutions, a GPU's default, give 0.4 % of tokens other codes,
        # and TF32 products would do so, too.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        network = self.family.loaded(files, device)
        encoder = None
        if self.encoder is not None:
            own = {
                part: files[_of_encoder(part)]
                for part in self.encoder.checkpoints
                if _of_encoder(part) in files
            }
            encoder = self.encoder.loaded(own, device)
        return self.family.scorer()(self, network, encoder, device)


def _of_encoder(part: str) -> str:
    """What a file of an encoder is for, beside those of its network."""
    return "encoder" if part == "network" else f"encoder_{part}"
