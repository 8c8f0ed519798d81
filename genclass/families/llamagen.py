"""LlamaGen: an autoregressive transformer that predicts image tokens in raster order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from genclass.families.card import Family, MadeUp, Role, Scoring, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.randar import llama_layer
from genclass.families.size import Size
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, Size] = {
    "B": Size(layers=12, heads=12, width=768),
    "L": Size(layers=24, heads=16, width=1024),
    "XL": Size(layers=36, heads=20, width=1280),
    "XXL": Size(layers=48, heads=24, width=1536),
    "3B": Size(layers=24, heads=32, width=3200),
}


class LlamaGen(Family):
    """LlamaGen, class-conditional; it knows one order, so there is one trial."""

    encoders = ("llamagen_vq",)
    likelihood = True
    made_up = MadeUp(level=-1500.0, trial_noise=0.7)
    benched = ({"size": "L"},)

    architecture: Literal["llamagen"]
    size: Literal["B", "L", "XL", "XXL", "3B"] | Size
    vocabulary: PositiveInt = 16384
    grid: PositiveInt = 16  # the image is grid x grid tokens

    @property
    def shape(self) -> Size:
        return self.size if isinstance(self.size, Size) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.llamagen import LlamaGen as Network
        from genclass.models.llamagen import LlamaGenConfig

        return Network(
            LlamaGenConfig(
                **self.shape.model_dump(),
                vocabulary=self.vocabulary,
                grid=self.grid,
                classes=self.classes,
            )
        )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.raster import RasterScorer

        return RasterScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import raster

        return raster

    def role(self, options: Scoring) -> Role:
        return "raster"

    def trial(self, options: Scoring) -> Trial:
        return Trial("order", limit=1)

    def work(self, options: Scoring) -> Work:
        """As many positions as tokens, the class's with them, and all are predictions."""
        width, tokens = self.shape.width, self.grid**2
        layer = tokens * llama_layer(width) + attention(tokens, tokens, width) // 2
        return Work(self.shape.layers * layer + tokens * linear(width, self.vocabulary))
