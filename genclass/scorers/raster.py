"""The raster scorer: log p(image | class) by teacher forcing, in the one order that there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, distinct
from genclass.scorers.tokens import TokenScorer


class RasterScorer(TokenScorer):
    """A network that reads tokens row after row; nothing is drawn."""

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        latent = self.encode(center_crop(image, self.system.image_size))
        return Prepared(image, draws, self.encoder.quantize(latent).flatten())

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        if len(pairs) == 1:
            return self.token_log_probs(pairs[0][0], classes).sum(dim=1)
        places = torch.tensor(which).to(self.device, non_blocking=True)
        codes = torch.stack([image.encoded for image, _ in pairs])
        log_p: Tensor = self.network.token_log_probs_batch(codes[places], classes)
        return log_p.sum(dim=1)

    def token_log_probs(self, prepared: Prepared, classes: Tensor) -> Tensor:
        """log p of every token given those before it: float32 [classes, n]."""
        log_p: Tensor = self.network.token_log_probs(prepared.encoded, classes)
        return log_p

    @torch.inference_mode()
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        pair = torch.tensor([one, other], device=self.device)
        log_p = self.token_log_probs(prepared, pair).cpu()
        grid = self.network.config.grid
        return (log_p[0] - log_p[1]).view(grid, grid)
