"""RandAR: an autoregressive transformer that predicts image tokens in any order."""

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
    "B": Size(layers=12, heads=12, width=768),
    "L": Size(layers=24, heads=16, width=1024),
    "XL": Size(layers=36, heads=20, width=1280),
}


class OrderedScoring(Scoring):
    """log p(image | class) by the chain rule, in one order a trial."""

    orders: Literal["random", "raster", "constant"] = "random"
    latent_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmentation: Literal["center_crop", "random_crop"] = "center_crop"


class RandAR(Family):
    """RandAR in random orders, or in one; paper, section "Method"."""

    Options = OrderedScoring
    encoders = ("llamagen_vq", "maskgit_vq")
    likelihood = True
    made_up = MadeUp(level=-1500.0, trial_noise=0.7)

    benched = ({"size": "L"}, {"size": "XL"})

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

    def official(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import ordered_as_official

        return ordered_as_official

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import next_token

        return next_token(network, encoder, pixels, labels, training.batch, training.orders)

    def role(self, options: OrderedScoring) -> Role:
        return "raster" if options.orders == "raster" else "any-order"

    def trial(self, options: OrderedScoring) -> Trial:
        deterministic = options.latent_noise == 0 and options.augmentation == "center_crop"
        return Trial("order", 1 if options.orders != "random" and deterministic else None)

    def work(self, options: OrderedScoring) -> Work:
        return Work(randar_operations(self.shape, self.vocabulary, self.grid**2))


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


def llama_layer(width: int) -> int:
    """Of one position: queries, keys, values, output projection, and the feed-forward's three."""
    hidden = -(-(8 * width // 3) // 256) * 256
    return linear(width, 4 * width) + 3 * linear(width, hidden)
