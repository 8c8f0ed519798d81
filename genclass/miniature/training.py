"""How the miniature's networks are trained: on the CPU, seeded, each in less than a minute.

Every network learns the objective of the released one: the tokenizers and the autoencoder to
reconstruct images through a bottleneck, RandAR the next token in random (or raster) order, VAR the
tokens of the next scale, DiT the noise, SiT the velocity, ViT the class. The weight matrices of the
blocks learn by Muon, in half the steps that AdamW takes them, the rest by AdamW; a warm-up and a
cosine decay to zero make a moving average of the weights needless.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from genclass.config import Training
from genclass.data.class_lists import ClassList
from genclass.data.images import decode, to_tensor
from genclass.errors import GenclassError
from genclass.families import Encoder, Family
from genclass.files import write_atomically
from genclass.miniature.muon import Muon
from genclass.sources.checkpoints import load_checkpoint


def train_network(
    network: Family | None,
    encoder: Encoder | None,
    training: Training,
    seed: int,
    images: str | Path,
    encoder_checkpoint: str | Path | None,
    destination: str | Path,
) -> None:
    """Train one checkpoint of the miniature and write its weights.

    network: None to train the encoder itself; otherwise the network is trained on what the
    encoder of `encoder_checkpoint` makes of the images (no encoder: on their pixels). images: an
    ImageFolder of digits.

    Raises:
        GenclassError: an architecture that is never trained here, or no images.
    """
    torch.manual_seed(seed)
    pixels, labels = _load(Path(images))
    module = encoder.build() if encoder else None
    if network is not None and encoder_checkpoint is not None:
        assert module is not None
        load_checkpoint(module, encoder_checkpoint)
        module.eval()
    card = network or encoder
    assert card is not None
    learner = network.build() if network else module
    assert learner is not None
    loss = card.objective(learner, module if network else None, pixels, labels, training)
    _fit(learner, loss, training, Path(destination).stem)
    _save(card.released(learner.state_dict()), destination)


def _load(folder: Path) -> tuple[Tensor, Tensor]:
    """All images, float32 [n, 3, 8, 8] in [-1, 1], and their class ids, int64 [n]."""
    class_ids = ClassList.load("digits").by_folder
    files = sorted(folder.glob("*/*.png"))
    if not files:
        raise GenclassError(f"{folder}: there are no digits: rerun the workflow")
    pixels = torch.stack([to_tensor(decode(file)) for file in files])
    return pixels, torch.tensor([class_ids[file.parent.name] for file in files])


def _fit(module: nn.Module, loss: Callable[[], Tensor], training: Training, name: str) -> None:
    """Minimise, with a progress bar in a terminal and a line now and then in a log."""
    module.train()
    matrices = _matrices(module)
    of_blocks = set(matrices)
    others = [each for each in module.parameters() if each not in of_blocks]
    highest, decay = training.learning_rate, training.weight_decay
    adamw, muon = [{"params": others}], [{"params": matrices}]  # either may have none
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(adamw, highest, betas=(0.9, 0.99), weight_decay=decay, fused=True),
        Muon(muon, highest, weight_decay=decay),
    ]
    warm_up = max(1, training.steps // 20)

    def rate(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / training.steps))
        return min((step + 1) / warm_up, cosine)

    schedules = [torch.optim.lr_scheduler.LambdaLR(each, rate) for each in optimizers]
    steps: Iterable[int] = range(training.steps)
    quiet = not sys.stderr.isatty()
    with tqdm(steps, desc=name, unit="step", mininterval=15 if quiet else 0.2) as bar:
        for _ in bar:
            value = loss()
            module.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
    if not math.isfinite(value.item()):
        raise GenclassError(f"{name}: the loss is {value.item()}: lower its learning rate")


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers and convolutions in the network's blocks, each once."""
    blocks = (each for each in module.modules() if isinstance(each, nn.ModuleList))
    layers = dict.fromkeys(layer for block in blocks for layer in block.modules())
    return [
        layer.get_parameter("weight")
        for layer in layers
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]


def _save(content: Mapping[str, Any], path: str | Path) -> None:
    if Path(path).suffix == ".safetensors":
        write_atomically(path, save(dict(content)))
        return
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())
