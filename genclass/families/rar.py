"""RAR: an autoregressive transformer that is told which place is next, trained in random orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from genclass.families.card import Family, MadeUp, Role, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.randar import OrderedScoring, order_role, order_trial
from genclass.families.size import FeedForwardSize
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, FeedForwardSize] = {
    "B": FeedForwardSize(layers=24, heads=16, width=768, hidden=3072),
    "L": FeedForwardSize(layers=24, heads=16, width=1024, hidden=4096),
    "XL": FeedForwardSize(layers=32, heads=16, width=1280, hidden=5120),
    "XXL": FeedForwardSize(layers=40, heads=16, width=1408, hidden=6144),
}


class RAR(Family):
    """RAR in raster order, in which its training ended, or in random ones, in which it began."""

    Options = OrderedScoring
    encoders = ("maskgit_vq",)
    likelihood = True
    made_up = MadeUp(level=-1300.0, trial_noise=0.7)
    benched = ({"size": "L"},)

    architecture: Literal["rar"]
    size: Literal["B", "L", "XL", "XXL"] | FeedForwardSize
    vocabulary: PositiveInt = 1024
    grid: PositiveInt = 16  # the image is grid x grid tokens

    @property
    def shape(self) -> FeedForwardSize:
        return self.size if isinstance(self.size, FeedForwardSize) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.rar import RAR as Network
        from genclass.models.rar import RARConfig

        shape = self.shape.model_dump()
        return Network(
            RARConfig(**shape, vocabulary=self.vocabulary, grid=self.grid, classes=self.classes)
        )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.ordered import OrderedScorer

        return OrderedScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import ordered_logits

        return ordered_logits

    def role(self, options: OrderedScoring) -> Role:
        return order_role(options)

    def trial(self, options: OrderedScoring) -> Trial:
        return order_trial(options)

    def work(self, options: OrderedScoring) -> Work:
        """n + 1 positions, each with its own shifts, scales and gates; the head at n."""
        size, tokens = self.shape, self.grid**2
        width, positions = size.width, tokens + 1
        layer = positions * (
            linear(width, 6 * width) + linear(width, 4 * width) + 2 * linear(width, size.hidden)
        )
        mixing = attention(positions, positions, width) // 2
        head = tokens * (linear(width, 2 * width) + linear(width, self.vocabulary))
        return Work(size.layers * (layer + mixing) + head)
