"""The discriminative scorer: log p(class | image) of all classes in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop, to_tensor
from genclass.errors import GenclassError
from genclass.families.card import System
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, Scorer, distinct


class LogitsScorer(Scorer):
    """An image classifier; it is run when an image is prepared, and nothing is drawn.

    The network is in float32 or bfloat16, the softmax over all its classes in float32.
    """

    def __init__(self, system: System, network: Any, encoder: None, device: torch.device) -> None:
        self.system = system
        self.device = device
        self.dtype: torch.dtype = getattr(torch, system.options.dtype)
        self.preprocessing = getattr(network, "preprocessing", None)
        found = tuple(
            self.pixels(Image.new("RGB", (2 * system.image_size, system.image_size))).shape
        )
        if found != (3, system.image_size, system.image_size):
            raise GenclassError(
                f"image_size is {system.image_size}, but the preprocessing of this network gives "
                f"{found[-2]} x {found[-1]} pixels: correct image_size"
            )
        self.network = network.eval().to(device, self.dtype)

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        pixels = self.pixels(image).unsqueeze(0).to(self.device, self.dtype, non_blocking=True)
        logits = self.network(pixels).logits[0]
        return Prepared(image, draws, logits.float().log_softmax(dim=0))

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        scores = torch.stack([image.encoded for image, _ in pairs])  # [images, all classes]
        return scores[torch.tensor(which).to(self.device, non_blocking=True), classes]

    def pixels(self, image: Image.Image) -> Tensor:
        """float32 [3, side, side], as the network reads it."""
        if self.preprocessing is None:
            return to_tensor(center_crop(image, self.system.image_size))
        pixels: Tensor = self.preprocessing(image)
        return pixels
