"""RandAR: an autoregressive transformer that predicts image tokens in any order, or at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from genclass.families.card import Family, MadeUp, Role, Scoring, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.size import Size
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, Size] = {
    "B": Size(layers=12, heads=12, width=768),
    "L": Size(layers=24, heads=16, width=1024),
    "XL": Size(layers=36, heads=20, width=1280),
}


class OrderedScoring(Scoring):
    """log p(image | class) by the chain rule, in one order a trial."""

    orders: Literal["random", "raster", "constant"] = "random"
    latent_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmentation: Literal["center_crop", "random_crop"] = "center_crop"

    speed = ("dtype", "augmentation")  # a crop is encoded for every trial


class MaskedScoring(Scoring):
    """The mean of log p(token | those that are visible, class) over the hidden ones.

    Trials go through the levels, which hide more or less, in an order whose beginnings are spread.
    """

    levels: PositiveInt = 10


class RandAR(Family):
    """RandAR in random orders, or in one; paper, section "Method"."""

    Options: ClassVar[type[Scoring]] = OrderedScoring
    encoders = ("llamagen_vq", "maskgit_vq")
    likelihood = True
    made_up = MadeUp(level=-1500.0, trial_noise=0.7)

    benched: ClassVar[tuple[dict[str, Any], ...]] = ({"size": "L"}, {"size": "XL"})

    architecture: Literal["randar"]
    size: Literal["B", "L", "XL"] | Size
    vocabulary: PositiveInt = 16384
    grid: PositiveInt = 16  # the image is grid x grid tokens

    @property
    def shape(self) -> Size:
        return self.size if isinstance(self.size, Size) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.randar import RandAR as Network
        from genclass.models.randar import RandARConfig

        shape = self.shape.model_dump()
        return Network(
            RandARConfig(**shape, vocabulary=self.vocabulary, grid=self.grid, classes=self.classes)
        )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.ordered import OrderedScorer

        return OrderedScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import ordered

        return ordered

    def official(self) -> Callable[[Any, Any, int, Tensor], Tensor] | None:
        from genclass.scorers.plain import ordered_as_official

        return ordered_as_official

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import next_token

        return next_token(network, encoder, pixels, labels, training.batch, training.orders)

    def role(self, options: Any) -> Role:
        return order_role(options)

    def trial(self, options: Any) -> Trial:
        return order_trial(options)

    def work(self, options: Any) -> Work:
        return Work(randar_operations(self.shape, self.vocabulary, self.grid**2))


class RandARMasked(RandAR):
    """RandAR's network, asked for all hidden tokens at once: "masked diffusion" (RandAR_DM)."""

    Options = MaskedScoring
    likelihood = False
    made_up = MadeUp(level=-8.0, trial_noise=0.02)
    benched = ({"size": "L"},)

    architecture: Literal["randar_masked"]  # type: ignore[assignment]

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.masked import HiddenTokensScorer

        return HiddenTokensScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import hidden_tokens

        return hidden_tokens

    def official(self) -> None:
        return None  # the plain way is the official one

    def role(self, options: MaskedScoring) -> Role:
        return "masked"

    def trial(self, options: MaskedScoring) -> Trial:
        """Few visible tokens say something else than many."""
        return Trial("mask", exchangeable=False)

    def work(self, options: MaskedScoring) -> Work:
        """The mean over the levels: more visible tokens are more positions."""
        counts = visible_counts(self.grid**2, options.levels)
        operations = (
            hidden_operations(self.shape, self.vocabulary, self.grid**2, visible)
            for visible in counts
        )
        return Work(sum(operations) // len(counts))


def order_role(options: OrderedScoring) -> Role:
    """Of a network that is asked in orders."""
    return "raster" if options.orders == "raster" else "any-order"


def order_trial(options: OrderedScoring) -> Trial:
    """Of a network that is asked in orders."""
    deterministic = options.latent_noise == 0 and options.augmentation == "center_crop"
    return Trial("order", 1 if options.orders != "random" and deterministic else None)


def visible_counts(tokens: int, levels: int) -> list[int]:
    """Numbers of visible tokens, n/(2 levels) + j n/levels rounded down, j = 0 .. levels - 1.

    Always fewer than n, so that something is hidden. In integers: the official floating-point
    steps may lose or gain a level by rounding.
    """
    return [(2 * level + 1) * tokens // (2 * levels) for level in range(levels)]


def randar_operations(size: Size, vocabulary: int, tokens: int, *, square: bool = False) -> int:
    """RandAR as genclass scores with it: 2n positions, the last layer's outputs and head at n.

    The last layer's n queries each stand twice (see `randar.Attention`), so that its attention
    runs over a square of 2n queries, of which the n are necessary. square: count causal attention
    as the whole square, as torch's counter does.
    """
    width, positions = size.width, 2 * tokens
    whole = attention(positions, positions, width)
    keys_and_values = positions * linear(width, 2 * width)
    queries_and_after = tokens * (llama_layer(width) - linear(width, 2 * width))
    if square:
        attending = size.layers * whole
    else:
        attending = (size.layers - 1) * whole // 2 + attention(tokens, positions, width) // 2
    everywhere = (size.layers - 1) * positions * llama_layer(width)
    return (
        everywhere
        + keys_and_values
        + queries_and_after
        + attending
        + tokens * linear(width, vocabulary)
    )


def hidden_operations(size: Size, vocabulary: int, tokens: int, visible: int) -> int:
    """RandAR with some tokens visible: 1 + 2 visible + hidden positions, the head at the hidden.

    The last layer's outputs are at the hidden places only.
    """
    width, hidden = size.width, tokens - visible
    prefix = 1 + 2 * visible
    positions = prefix + hidden
    everywhere = (size.layers - 1) * positions * llama_layer(width)
    keys_and_values = positions * linear(width, 2 * width)
    queries_and_after = hidden * (llama_layer(width) - linear(width, 2 * width))
    within = attention(prefix, prefix, width) // 2
    across = attention(hidden, prefix + 1, width)
    return (
        everywhere
        + keys_and_values
        + queries_and_after
        + (size.layers - 1) * within
        + size.layers * across
        + hidden * linear(width, vocabulary)
    )


def llama_layer(width: int) -> int:
    """Of one position: queries, keys, values, output projection, and the feed-forward's three."""
    hidden = -(-(8 * width // 3) // 256) * 256
    return linear(width, 4 * width) + 3 * linear(width, hidden)
