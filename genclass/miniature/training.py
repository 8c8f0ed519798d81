"""How the miniature's networks are trained: on the CPU, seeded, in about a minute each.

Every network learns the objective of the released one: the tokenizer and the autoencoder to
reconstruct images through a bottleneck, RandAR the next token in random (or raster) order, DiT the
noise, SiT the velocity. AdamW with a warm-up and a cosine decay to zero, which makes a moving
average of the weights needless.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from genclass.config import AutoencoderKLEncoder, Encoder, Network, Training
from genclass.data.class_lists import ClassList
from genclass.data.images import decode, to_tensor
from genclass.errors import GenclassError
from genclass.files import write_atomically
from genclass.models.autoencoder_kl import Autoencoder
from genclass.models.dit import DiT
from genclass.models.llamagen_vq import LlamaGenVQ
from genclass.models.randar import RandAR
from genclass.models.sit import SiT
from genclass.scorers.build import build_encoder, build_network
from genclass.scorers.timestep import linear_schedule
from genclass.sources.checkpoints import load_checkpoint

Loss = Callable[[], Tensor]

_COMMITMENT = 0.25  # weight of the commitment loss, as in LlamaGen
_KL = 1e-5  # weight of the posterior's divergence from the prior
_REVIVE_EVERY = 10  # steps; code vectors that nothing is mapped to move to a latent
_REVIVE_BELOW = 0.05  # of the mean use
_CLASS_DEVIATION = 0.3  # of class embeddings at the start: small networks learn classes faster


def train_network(
    network: Network | None,
    encoder: Encoder,
    training: Training,
    seed: int,
    images: str | Path,
    encoder_checkpoint: str | Path | None,
    destination: str | Path,
) -> None:
    """Train one checkpoint of the miniature and write it as its released counterpart is.

    network: None to train the encoder itself; otherwise the network is trained on what the
    encoder of `encoder_checkpoint` makes of the images. images: an ImageFolder of digits.

    Raises:
        GenclassError: an architecture that is never trained here, or no images.
    """
    torch.manual_seed(seed)
    pixels, labels = _load(Path(images))
    module = build_encoder(encoder)
    name = Path(destination).stem
    if network is None:
        _fit(module, _encoder_loss(module, pixels, training), training, name)
        nested = isinstance(module, LlamaGenVQ)  # where the released file has its weights
        _save({"model": module.state_dict()} if nested else module.state_dict(), destination)
        return
    assert encoder_checkpoint is not None
    load_checkpoint(module, encoder_checkpoint)
    module.eval()
    learner = build_network(network)
    if isinstance(learner, RandAR):
        assert isinstance(module, LlamaGenVQ)
        loss = _any_order_loss(learner, module, pixels, labels, training)
    elif isinstance(learner, DiT) and isinstance(encoder, AutoencoderKLEncoder):
        loss = _timestep_loss(learner, Autoencoder(module, encoder), pixels, labels, training)
    else:
        raise GenclassError(f"{name}: the miniature trains no {network.architecture}")
    _fit(learner, loss, training, name)
    _save(learner.state_dict(), destination)


def _load(folder: Path) -> tuple[Tensor, Tensor]:
    """All images, float32 [n, 3, 8, 8] in [-1, 1], and their class ids, int64 [n]."""
    class_ids = ClassList.load("digits").by_folder
    files = sorted(folder.glob("*/*.png"))
    if not files:
        raise GenclassError(f"{folder}: there are no digits: rerun the workflow")
    pixels = torch.stack([to_tensor(decode(file)) for file in files])
    return pixels, torch.tensor([class_ids[file.parent.name] for file in files])


def _encoder_loss(module: nn.Module, pixels: Tensor, training: Training) -> Loss:
    if isinstance(module, LlamaGenVQ):
        return _tokenizer_loss(module, pixels, training)

    def loss() -> Tensor:
        batch = pixels[torch.randint(len(pixels), (training.batch,))]
        posterior = module.encode(batch).latent_dist  # type: ignore[operator]
        decoded = module.decode(posterior.sample()).sample  # type: ignore[operator]
        kl: Tensor = posterior.kl().mean()
        return F.mse_loss(decoded, batch) + _KL * kl

    return loss


def _tokenizer_loss(tokenizer: LlamaGenVQ, pixels: Tensor, training: Training) -> Loss:
    """VQ with straight-through gradients; unused code vectors are moved to where latents are."""
    vectors = tokenizer.quantize.embedding.weight
    codes_count, width = vectors.shape
    use = torch.zeros(codes_count)
    step = 0

    def place(chosen: Tensor, latents: Tensor) -> None:
        flat = F.normalize(latents.permute(0, 2, 3, 1).reshape(-1, width), dim=1)
        picked = flat[torch.randint(len(flat), (int(chosen.sum()),))]
        with torch.no_grad():
            vectors[chosen] = picked

    def loss() -> Tensor:
        nonlocal step
        batch = pixels[torch.randint(len(pixels), (training.batch,))]
        latents = tokenizer.encode(batch)
        if step == 0:
            place(torch.ones(codes_count, dtype=torch.bool), latents.detach())
        elif step % _REVIVE_EVERY == 0 and step < 0.8 * training.steps:
            unused = use < _REVIVE_BELOW * use.mean()
            place(unused, latents.detach())
            use[unused] = use.mean()
        step += 1
        quantised, codes, codebook_loss, commitment_loss = tokenizer.quantize_with_gradient(latents)
        use.mul_(0.9).add_(torch.bincount(codes.flatten(), minlength=codes_count))
        reconstruction = F.mse_loss(tokenizer.decode_latent(quantised), batch)
        return reconstruction + codebook_loss + _COMMITMENT * commitment_loss

    return loss


def _any_order_loss(
    network: RandAR, tokenizer: LlamaGenVQ, pixels: Tensor, labels: Tensor, training: Training
) -> Loss:
    """Cross-entropy of the next token, in a fresh random order for every image of a batch."""
    with torch.no_grad():
        codes = tokenizer.quantize(tokenizer.encode(pixels)).flatten(1)
    tokens = network.config.tokens

    def loss() -> Tensor:
        rows = torch.randint(len(codes), (training.batch,))
        orders = torch.arange(tokens).expand(training.batch, -1)
        if training.orders == "random":
            orders = torch.rand(training.batch, tokens).argsort(dim=1)
        logits = network(codes[rows], orders, labels[rows])
        return F.cross_entropy(logits.flatten(0, 1), codes[rows].gather(1, orders).flatten())

    return loss


def _timestep_loss(
    network: DiT, autoencoder: Autoencoder, pixels: Tensor, labels: Tensor, training: Training
) -> Loss:
    """DiT: the squared error of eps at a random timestep; SiT: of the velocity at a random t."""
    nn.init.normal_(network.y_embedder.embedding_table.weight, std=_CLASS_DEVIATION)
    with torch.no_grad():
        mean, deviation = autoencoder.encode(pixels)
    signals, noises = (torch.from_numpy(table).float() for table in linear_schedule())

    def loss() -> Tensor:
        rows = torch.randint(len(mean), (training.batch,))
        latent = mean[rows] + deviation[rows] * torch.randn_like(mean[rows])
        latent = latent * autoencoder.scaling
        noise = torch.randn_like(latent)
        if isinstance(network, SiT):
            t = torch.rand(training.batch)
            signal, target = t.view(-1, 1, 1, 1), latent - noise
            noised = signal * latent + (1 - signal) * noise
        else:
            t = torch.randint(len(signals), (training.batch,))
            signal, target = signals[t].view(-1, 1, 1, 1), noise
            noised = signal * latent + noises[t].view(-1, 1, 1, 1) * noise
        return F.mse_loss(network.predict(noised, t, labels[rows]), target)

    return loss


def _fit(module: nn.Module, loss: Loss, training: Training, name: str) -> None:
    """Minimise, with a progress bar in a terminal and a line now and then in a log."""
    module.train()
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=training.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=training.weight_decay,
        fused=True,
    )
    warm_up = max(1, training.steps // 20)

    def rate(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / training.steps))
        return min((step + 1) / warm_up, cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    steps: Iterable[int] = range(training.steps)
    quiet = not sys.stderr.isatty()
    with tqdm(steps, desc=name, unit="step", mininterval=15 if quiet else 0.2) as bar:
        for _ in bar:
            value = loss()
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
    if not math.isfinite(value.item()):
        raise GenclassError(f"{name}: the loss is {value.item()}: lower its learning rate")


def _save(content: dict[str, Tensor] | dict[str, dict[str, Tensor]], path: str | Path) -> None:
    if Path(path).suffix == ".safetensors":
        write_atomically(path, save(content))  # type: ignore[arg-type]
        return
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())
