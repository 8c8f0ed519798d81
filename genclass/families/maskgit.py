"""MaskGIT: a bidirectional transformer that fills in masked image tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from genclass.families.card import Family, MadeUp, Role, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.randar import MaskedScoring
from genclass.families.size import FeedForwardSize
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

# Released in one size, which its authors give no letter: its width is that of other B.
SIZES: dict[str, FeedForwardSize] = {
    "B": FeedForwardSize(layers=24, heads=16, width=768, hidden=3072)
}


class MaskingScoring(MaskedScoring):
    """The mean log p of masked tokens, each masked by itself with the probability of its level."""

    levels: PositiveInt = 100
    schedule: Literal["arccos", "linear", "square", "cosine"] = "arccos"  # as in training


class MaskGIT(Family):
    """MaskGIT as Maskgit-pytorch trained it, on the tokens of Taming Transformers' VQGAN."""

    Options = MaskingScoring
    encoders = ("taming_vqgan",)
    likelihood = False
    made_up = MadeUp(level=-6.0, trial_noise=0.02)
    benched = ({},)

    architecture: Literal["maskgit"]
    size: Literal["B"] | FeedForwardSize = "B"
    vocabulary: PositiveInt = 1024
    grid: PositiveInt = 16  # the image is grid x grid tokens: 16 for 256 pixels, 32 for 512

    @property
    def shape(self) -> FeedForwardSize:
        return self.size if isinstance(self.size, FeedForwardSize) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.maskgit import MaskGIT as Network
        from genclass.models.maskgit import MaskGITConfig

        shape = self.shape.model_dump()
        return Network(
            MaskGITConfig(**shape, vocabulary=self.vocabulary, grid=self.grid, classes=self.classes)
        )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.masked import MaskingScorer

        return MaskingScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import masked

        return masked

    def role(self, options: MaskingScoring) -> Role:
        return "masked"

    def trial(self, options: MaskingScoring) -> Trial:
        """Masks of different levels say differently much."""
        return Trial("mask", exchangeable=False)

    def work(self, options: MaskingScoring) -> Work:
        """n tokens and the class, which all see all; the head, mask column and all, at n."""
        size, tokens = self.shape, self.grid**2
        width, positions = size.width, tokens + 1
        first = positions * linear(width, 2 * width)
        layer = positions * (linear(width, 4 * width) + 2 * linear(width, size.hidden))
        last = tokens * (linear(width, width) + linear(width, self.vocabulary + 1))
        mixing = attention(positions, positions, width)
        return Work(first + size.layers * (layer + mixing) + last)
