"""A small model and dataset on disk, for the tests of evaluate."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from genclass.config import AnyOrderClassifier, LlamaGenVQEncoder, RandARNetwork, Size
from genclass.data.image_list import ImageList, ImageRow
from genclass.evaluation.evaluate import evaluate
from genclass.evaluation.spec import SCORING_VERSION, Spec
from genclass.files import sha256_of
from genclass.models.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from genclass.models.randar import RandAR, RandARConfig
from genclass.scores.shards import Shard

IMAGES, CLASSES = 6, 5


@dataclass(frozen=True)
class Setting:
    """A small model and dataset on disk."""

    folder: Path
    spec: Spec
    images: ImageList

    @property
    def network(self) -> Path:
        return self.folder / "network.pt"

    @property
    def encoder(self) -> Path:
        return self.folder / "encoder.safetensors"

    def run(self, shard: Shard, spec: Spec | None = None, **changes) -> Path:
        destination = self.folder / "scores" / f"{shard.name}.safetensors"
        arguments = {
            "spec": spec or self.spec,
            "shard": shard,
            "image_list": self.images,
            "images": self.folder / "images",
            "network_checkpoint": self.network,
            "encoder_checkpoint": self.encoder,
            "partial": self.folder / "partial",
            "destination": destination,
            "device": torch.device("cpu"),
            "class_batch": 2,
        }
        arguments |= changes
        evaluate(**arguments)
        return arguments["destination"]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    torch.manual_seed(0)
    network = RandAR(RandARConfig(2, 2, 16, vocabulary=32, grid=4, classes=CLASSES))
    torch.nn.init.normal_(network.output.weight)
    tokenizer = LlamaGenVQ(LlamaGenVQConfig(32, (1, 1), 1, 32, codebook=32, code_width=4))
    torch.save(network.state_dict(), tmp_path / "network.pt")
    save_file(tokenizer.state_dict(), tmp_path / "encoder.safetensors")
    random = np.random.default_rng(0)
    rows = []
    (tmp_path / "images").mkdir()
    for index in range(IMAGES):
        path = tmp_path / "images" / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        rows.append(ImageRow(f"a/{index}.png", path.name, index % CLASSES, sha256_of(path)))
    images = ImageList(tuple(rows))
    spec = Spec(
        scoring_version=SCORING_VERSION,
        seed=1,
        dataset="small",
        image_list=images.sha256,
        border=0,
        candidates=[0, 1, 3, 4],
        image_size=8,
        network=RandARNetwork(
            architecture="randar",
            checkpoint=sha256_of(tmp_path / "network.pt"),
            size=Size(layers=2, heads=2, width=16),
            vocabulary=32,
            grid=4,
            classes=CLASSES,
        ),
        encoder=LlamaGenVQEncoder(
            architecture="llamagen_vq",
            checkpoint=sha256_of(tmp_path / "encoder.safetensors"),
            channels=32,
            multipliers=[1, 1],
            residual_blocks=1,
            latent=32,
            codebook=32,
            code_width=4,
        ),
        classifier=AnyOrderClassifier(method="any_order"),
    )
    return Setting(tmp_path, spec, images)
