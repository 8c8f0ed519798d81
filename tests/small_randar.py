"""A RandAR of 4 x 4 tokens and its tokenizer, small enough for a test, with weights on disk."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from genclass.config import LlamaGenVQEncoder, RandARNetwork, Size
from genclass.files import sha256_of
from genclass.scorers.build import build_encoder, build_network

IMAGE_SIZE = 8


def sections(layers: int, classes: int) -> tuple[RandARNetwork, LlamaGenVQEncoder]:
    """Of a config: the checkpoints are called `network` and `encoder`."""
    network = RandARNetwork(
        architecture="randar",
        checkpoint="network",
        size=Size(layers=layers, heads=2, width=16),
        vocabulary=32,
        grid=4,
        classes=classes,
    )
    encoder = LlamaGenVQEncoder(
        architecture="llamagen_vq",
        checkpoint="encoder",
        channels=32,
        multipliers=[1, 1],
        residual_blocks=1,
        latent=32,
        codebook=32,
        code_width=4,
    )
    return network, encoder


def save(folder: Path, layers: int, classes: int) -> tuple[RandARNetwork, LlamaGenVQEncoder]:
    """Write network.pt and encoder.safetensors, the same each time: the sections of a spec."""
    network, encoder = sections(layers, classes)
    torch.manual_seed(0)
    weights = build_network(network).state_dict()
    torch.nn.init.normal_(weights["output.weight"])  # zeros, before training
    files = folder / "network.pt", folder / "encoder.safetensors"
    torch.save(weights, files[0])
    save_file(build_encoder(encoder).state_dict(), files[1])
    return (
        network.model_copy(update={"checkpoint": sha256_of(files[0])}),
        encoder.model_copy(update={"checkpoint": sha256_of(files[1])}),
    )
