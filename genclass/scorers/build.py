"""From a spec's sections and two checkpoint files to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from genclass.config import (
    AutoencoderKLEncoder,
    DiTNetwork,
    Encoder,
    LlamaGenVQEncoder,
    MaskGITVQEncoder,
    Network,
    RandARNetwork,
    SiTNetwork,
    SiTREPANetwork,
    Size,
)
from genclass.config import Classifier as ClassifierOptions
from genclass.errors import GenclassError
from genclass.models import dit, randar
from genclass.models.autoencoder_kl import Autoencoder, build_autoencoder
from genclass.models.dit import DiT, DiTConfig
from genclass.models.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from genclass.models.maskgit_vq import MaskGITVQ
from genclass.models.randar import RandAR, RandARConfig
from genclass.models.sit import SiT, SiTConfig
from genclass.scorers.ordered import AnyOrderClassifier
from genclass.scorers.scorer import Classifier
from genclass.scorers.timestep import DiffusionClassifier, FlowClassifier
from genclass.sources.checkpoints import load_checkpoint


def build_network(section: Network) -> nn.Module:
    """The network of a config section, with the weights that training starts from.

    Raises:
        GenclassError: sizes that make no network.
    """
    try:
        match section:
            case RandARNetwork():
                return RandAR(
                    RandARConfig(
                        **_size(section.size, randar.SIZES),
                        vocabulary=section.vocabulary,
                        grid=section.grid,
                        classes=section.classes,
                    )
                )
            case DiTNetwork():
                return DiT(DiTConfig(**_size(section.size, dit.SIZES), **_shape(section)))
            case SiTNetwork():
                return SiT(SiTConfig(**_size(section.size, dit.SIZES), **_shape(section)))
            case SiTREPANetwork():
                return SiT(
                    SiTConfig(
                        **_size(section.size, dit.SIZES),
                        **_shape(section),
                        learn_sigma=False,
                        aligned_to=tuple(section.aligned_to),
                        projector_width=section.projector_width,
                    )
                )
    except ValueError as error:
        raise GenclassError(f"network {section.architecture}: {error}") from None


def build_encoder(section: Encoder) -> nn.Module:
    """The encoder of a config section, with random weights.

    Raises:
        GenclassError: sizes that make no encoder.
    """
    try:
        match section:
            case LlamaGenVQEncoder():
                sizes = section.model_dump(exclude={"architecture", "checkpoint"})
                sizes["multipliers"] = tuple(sizes["multipliers"])
                return LlamaGenVQ(LlamaGenVQConfig(**sizes))
            case MaskGITVQEncoder():
                return MaskGITVQ()
            case AutoencoderKLEncoder():
                return build_autoencoder(section)
    except ValueError as error:
        raise GenclassError(f"encoder {section.architecture}: {error}") from None


def build_classifier(
    network_section: Network,
    encoder_section: Encoder,
    options: ClassifierOptions,
    image_size: int,
    network_checkpoint: str | Path,
    encoder_checkpoint: str | Path,
    device: torch.device,
) -> Classifier:
    """A classifier with its released weights, ready on the device.

    Raises:
        GenclassError: a checkpoint that does not fit, or parts that do not fit each other.
    """
    # Float32 is float32: TF32 convolutions, a GPU's default, give 0.4 % of the tokens other codes.
    torch.backends.cudnn.allow_tf32 = False
    with device:  # a GPU draws the weights that training starts from at once, a CPU in seconds
        network, encoder = build_network(network_section), build_encoder(encoder_section)
    load_checkpoint(network, network_checkpoint)
    load_checkpoint(encoder, encoder_checkpoint)
    parts: Any = (network, encoder)
    if isinstance(encoder_section, AutoencoderKLEncoder):
        parts = (network, Autoencoder(parts[1], encoder_section))
    kinds: dict[str, Any] = {
        "any_order": AnyOrderClassifier,
        "diffusion": DiffusionClassifier,
        "flow": FlowClassifier,
    }
    classifier: Classifier = kinds[options.method](*parts, options, image_size, device)
    return classifier


def _size(size: str | Size, named: dict[str, dict[str, int]]) -> dict[str, Any]:
    return size.model_dump() if isinstance(size, Size) else named[size]


def _shape(section: DiTNetwork | SiTNetwork | SiTREPANetwork) -> dict[str, Any]:
    return section.model_dump(include={"patch", "latent_size", "channels", "classes"})
