"""A RandAR of 4 x 4 tokens and its tokenizer, small enough for a test, with weights on disk."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from genclass.families.encoders import LlamaGenVQ
from genclass.families.randar import RandAR
from genclass.families.size import Size

IMAGE_SIZE = 8


def sections(layers: int, classes: int) -> tuple[RandAR, LlamaGenVQ]:
    """Of a config: the checkpoints are called `network` and `encoder`."""
    network = RandAR(
        architecture="randar",
        checkpoint="network",
        size=Size(layers=layers, heads=2, width=16),
        vocabulary=32,
        grid=4,
        classes=classes,
    )
    encoder = LlamaGenVQ(
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


def save(folder: Path, layers: int, classes: int) -> dict[str, Path]:
    """Write network.pt and encoder.safetensors, the same each time: the files of a job."""
    network, encoder = sections(layers, classes)
    torch.manual_seed(0)
    weights = network.build().state_dict()
    torch.nn.init.normal_(weights["output.weight"])  # zeros, before training
    files = {"network": folder / "network.pt", "encoder": folder / "encoder.safetensors"}
    torch.save(weights, files["network"])
    save_file(encoder.build().state_dict(), files["encoder"])
    return files
