"""What scorers of networks that read a grid of image tokens share."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import to_tensor
from genclass.errors import GenclassError
from genclass.families.card import System
from genclass.scorers.scorer import Scorer


class TokenScorer(Scorer):
    """A network with its tokenizer, on the device.

    The network is in float32 or bfloat16, the tokenizer always in float32; log p is accumulated
    in float32.

    Raises:
        GenclassError: the two do not fit each other, or the image.
    """

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        config, image_size = network.config, system.image_size
        tokens = image_size // encoder.config.stride
        if tokens != config.grid or image_size % encoder.config.stride:
            raise GenclassError(
                f"image_size {image_size} with a tokenizer of stride {encoder.config.stride} "
                f"makes {tokens} x {tokens} tokens, but the network reads "
                f"{config.grid} x {config.grid}: correct image_size or network.grid"
            )
        if encoder.config.codebook != config.vocabulary:
            raise GenclassError(
                f"the tokenizer has {encoder.config.codebook} codes, but the network a "
                f"vocabulary of {config.vocabulary}: they were not trained together"
            )
        self.system = system
        self.device = device
        self.network = network.eval().to(device, getattr(torch, system.options.dtype))
        self.encoder = encoder.eval().to(device)

    def compile(self) -> None:
        self.network.compile_scoring()

    def encode(self, image: Image.Image) -> Tensor:
        """A crop's latent, before quantisation."""
        pixels = to_tensor(image).unsqueeze(0).to(self.device, non_blocking=True)
        if self.encoder.darkest == 0:
            pixels = (pixels + 1) / 2
        latent: Tensor = self.encoder.encode(pixels)
        return latent
