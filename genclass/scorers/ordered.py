"""The ordered scorer: log p(image | class) by teacher forcing; a trial is one order.

Paper, section "Method": the score of a class is the mean over orders of log p_o(x | c), and all
classes of an image share its orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop, random_crop
from genclass.families.card import System
from genclass.families.randar import OrderedScoring
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, distinct
from genclass.scorers.tokens import TokenScorer

# Drawn once for everything: the same constant order in every run, image and dataset.
_CONSTANT_ORDER = Draws(seed=0, dataset="", image_id="")


class OrderedScorer(TokenScorer):
    """An any-order network with its tokenizer."""

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        super().__init__(system, network, encoder, device)
        assert isinstance(system.options, OrderedScoring)
        self.options = system.options

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        if self.options.augmentation == "random_crop":
            return Prepared(image, draws, None)  # every trial has its own crop
        latent = self.encode(center_crop(image, self.system.image_size))
        if self.options.latent_noise == 0:
            return Prepared(image, draws, self.encoder.quantize(latent).flatten())
        return Prepared(image, draws, latent)

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        if len(pairs) == 1:
            return self.token_log_probs(*pairs[0], classes).sum(dim=1)
        places = torch.tensor(which).to(self.device, non_blocking=True)
        codes = torch.stack([self._codes(image, trial) for image, trial in pairs])
        orders = torch.stack([self.order(image.draws, trial) for image, trial in pairs])
        orders = orders.to(self.device, non_blocking=True)
        log_p: Tensor = self.network.token_log_probs_batch(codes[places], orders[places], classes)
        return log_p.sum(dim=1)

    def token_log_probs(self, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
        """log p of every token given those before it: float32 [classes, n], as decoded."""
        codes = self._codes(prepared, trial)
        order = self.order(prepared.draws, trial).to(self.device, non_blocking=True)
        log_p: Tensor = self.network.token_log_probs(codes, order, classes)
        return log_p

    @torch.inference_mode()
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        config = self.network.config
        pair = torch.tensor([one, other], device=self.device)
        total = torch.zeros(config.tokens)
        for trial in trials:
            log_p = self.token_log_probs(prepared, trial, pair).cpu()
            total[self.order(prepared.draws, trial)] += log_p[0] - log_p[1]
        return (total / len(trials)).view(config.grid, config.grid)

    def order(self, draws: Draws, trial: int) -> Tensor:
        """The order of a trial: int64 [n], grid positions in order of decoding."""
        tokens = self.network.config.tokens
        if self.options.orders == "raster":
            return torch.arange(tokens)
        if self.options.orders == "constant":
            return _CONSTANT_ORDER.permutation(tokens, trial=0)
        return draws.permutation(tokens, trial)

    def _codes(self, prepared: Prepared, trial: int) -> Tensor:
        """The image's codes in a trial: int64 [n], in raster order."""
        latent: Tensor | None = prepared.encoded
        if latent is not None and not latent.is_floating_point():
            return latent  # they are the same in every trial
        if latent is None:
            generator = prepared.draws.generator("crop", trial)
            latent = self.encode(random_crop(prepared.image, self.system.image_size, generator))
        if self.options.latent_noise:
            t = self.options.latent_noise
            noise = prepared.draws.normal(tuple(latent.shape), "latent_noise", trial)
            latent = (1 - t) * latent + t * noise.to(self.device, non_blocking=True)
        codes: Tensor = self.encoder.quantize(latent)
        return codes.flatten()
