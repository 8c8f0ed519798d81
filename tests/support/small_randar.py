"""A RandAR of 4 x 4 tokens and its tokenizer, small enough for a test, with weights on disk."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from genclass.config import ScoredModel, parse_model
from genclass.text import canonical_json

IMAGE_SIZE = 8


def sections(layers: int, classes: int) -> dict[str, Any]:
    """Of a model in a config: the checkpoints are called `network` and `encoder`."""
    return {
        "network": {
            "architecture": "randar",
            "checkpoint": "network",
            "size": {"layers": layers, "heads": 2, "width": 16},
            "vocabulary": 32,
            "grid": 4,
            "classes": classes,
        },
        "encoder": {
            "architecture": "llamagen_vq",
            "checkpoint": "encoder",
            "channels": 32,
            "multipliers": [1, 1],
            "residual_blocks": 1,
            "latent": 32,
            "codebook": 32,
            "code_width": 4,
        },
        "image_size": IMAGE_SIZE,
    }


def model(layers: int, classes: int, **changes: Any) -> ScoredModel:
    """The same, typed; `changes`: other sections, such as `classifier` and `strategy`."""
    return parse_model(canonical_json(sections(layers, classes) | changes))


def save(folder: Path, layers: int, classes: int) -> dict[str, Path]:
    """Write network.pt and encoder.safetensors, the same each time; what each is for."""
    system = model(layers, classes).system
    assert system.encoder is not None
    files = {"network": folder / "network.pt", "encoder": folder / "encoder.safetensors"}
    torch.manual_seed(0)
    weights = system.family.build().state_dict()
    torch.nn.init.normal_(weights["output.weight"])  # zeros, before training
    torch.save(weights, files["network"])
    save_file(system.encoder.build().state_dict(), files["encoder"])
    return files
