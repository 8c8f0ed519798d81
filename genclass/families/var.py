"""VAR: a transformer that predicts an image's token maps scale after scale; and A-VARC+."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genclass.families.card import Family, MadeUp, Role, Scoring, Trial, Work
from genclass.families.encoders import SIDES
from genclass.families.operations import attention, linear
from genclass.families.size import Size
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, Size] = {
    f"d{depth}": Size(layers=depth, heads=depth, width=64 * depth) for depth in (16, 20, 24, 30, 36)
}


class NextScaleScoring(Scoring):
    """log p(image | class), of one sample of the image a trial; its parts are the first scales.

    A-VARC+ has samples, the first of them the image itself, and looks at parts before it looks at
    wholes: `noise_deviation: 0.1`, and a fixed strategy with `parts`.
    """

    noise_deviation: Annotated[float, Field(ge=0)] = 0.0  # of the latent, in all samples but one
    crop: Literal["lanczos", "adm"] = "lanczos"  # VAR's own, or that of the other families


class VAR(Family):
    """VAR, and A-VARC+ on it."""

    Options = NextScaleScoring
    encoders = ("var_vq",)
    likelihood = True
    made_up = MadeUp(level=-4000.0, trial_noise=0.7)
    benched = ({"size": "d16"},)

    architecture: Literal["var"]
    size: Literal["d16", "d20", "d24", "d30", "d36"] | Size
    vocabulary: PositiveInt = 4096
    code_width: PositiveInt = 32
    sides: list[PositiveInt] = SIDES
    shared_modulation: bool = False  # of all layers: d36 alone has it

    @property
    def shape(self) -> Size:
        return self.size if isinstance(self.size, Size) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.var import VAR as Network
        from genclass.models.var import VARConfig

        return Network(
            VARConfig(
                **self.shape.model_dump(),
                vocabulary=self.vocabulary,
                code_width=self.code_width,
                classes=self.classes,
                sides=tuple(self.sides),
                shared_modulation=self.shared_modulation,
            )
        )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.next_scale import NextScaleScorer

        return NextScaleScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import next_scale

        return next_scale

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import next_scale

        return next_scale(network, encoder, pixels, labels, training.batch)

    def role(self, options: NextScaleScoring) -> Role:
        return "next-scale"

    def trial(self, options: NextScaleScoring) -> Trial:
        """The first sample is the image itself, the others have noise."""
        limit = None if options.noise_deviation else 1
        return Trial("sample", limit, exchangeable=limit is not None)

    def work(self, options: NextScaleScoring) -> Work:
        parts = tuple(self._operations(scales) for scales in range(1, len(self.sides) + 1))
        return Work(parts[-1], parts=parts)

    def _operations(self, scales: int) -> int:
        """Of a score of the first scales: a map's queries see its own keys and the smaller maps'.

        What quantises a further sample, once for all classes, is 0.1 % of one class's score.
        """
        width, layers = self.shape.width, self.shape.layers
        counts = [side**2 for side in self.sides[:scales]]
        tokens = sum(counts)
        attending = sum(
            attention(queries, keys, width)
            for queries, keys in zip(counts, accumulate(counts), strict=True)
        )
        modulation = (1 if self.shared_modulation else layers) * linear(width, 6 * width)
        return (
            (tokens - 1) * linear(self.code_width, width)
            + modulation
            + layers * (tokens * 3 * linear(width, 4 * width) + attending)
            + linear(width, 2 * width)
            + tokens * linear(width, self.vocabulary)
        )
