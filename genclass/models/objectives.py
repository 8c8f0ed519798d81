"""What networks learn: the objectives of the released ones, each the loss of a fresh batch.

Every function takes all images once and returns a function without arguments: the loss of a batch
drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genclass.models.autoencoder_kl import posterior

Loss = Callable[[], Tensor]

_COMMITMENT = 0.25  # weight of the commitment loss, as in LlamaGen
_KL = 1e-5  # weight of the posterior's divergence from the prior
_REVIVE_EVERY = 10  # steps; code vectors that nothing is mapped to move to a latent
_REVIVE_BELOW = 0.05  # of the mean use
_CLASS_DEVIATION = 0.3  # of class embeddings at the start: small networks learn classes faster


def variational(module: Any, pixels: Tensor, batch: int) -> Loss:
    """An autoencoder's: reconstruction, and the divergence of its posterior from the prior."""

    def loss() -> Tensor:
        images = pixels[torch.randint(len(pixels), (batch,))]
        mean, log_variance = module.encode(images)
        deviation = torch.exp(0.5 * log_variance)
        noise = torch.randn(mean.shape, device=mean.device)
        decoded = module.decode(mean + deviation * noise)
        excess = mean.square() + log_variance.exp() - 1 - log_variance
        divergence = 0.5 * excess.sum(dim=(1, 2, 3)).mean()
        return F.mse_loss(decoded, images) + _KL * divergence

    return loss


def vector_quantised(tokenizer: Any, pixels: Tensor, batch: int, steps: int) -> Loss:
    """VQ with straight-through gradients; unused code vectors are moved to what is quantised."""
    vectors = tokenizer.quantize.embedding.weight
    codes_count = len(vectors)
    use = torch.zeros(codes_count)
    step = 0

    def place(chosen: Tensor, latents: Tensor) -> None:
        with torch.no_grad():
            points = tokenizer.quantize.points(latents)
            vectors[chosen] = points[torch.randint(len(points), (int(chosen.sum()),))]

    def loss() -> Tensor:
        nonlocal step
        images = pixels[torch.randint(len(pixels), (batch,))]
        latents = tokenizer.encode(images)
        if step == 0:
            place(torch.ones(codes_count, dtype=torch.bool), latents.detach())
        elif step % _REVIVE_EVERY == 0 and step < 0.8 * steps:
            unused = use < _REVIVE_BELOW * use.mean()
            place(unused, latents.detach())
            use[unused] = use.mean()
        step += 1
        quantised, codes, codebook_loss, commitment_loss = tokenizer.quantize_with_gradient(latents)
        use.mul_(0.9).add_(torch.bincount(codes.flatten(), minlength=codes_count))
        reconstruction = F.mse_loss(tokenizer.decode_latent(quantised), images)
        return reconstruction + codebook_loss + _COMMITMENT * commitment_loss

    return loss


def next_token(
    network: Any, tokenizer: Any, pixels: Tensor, labels: Tensor, batch: int, orders: str
) -> Loss:
    """Cross-entropy of the next token; orders: random, a fresh one for every image, or raster."""
    with torch.no_grad():
        codes = tokenizer.quantize(tokenizer.encode(pixels)).flatten(1)
    tokens = network.config.tokens

    def loss() -> Tensor:
        rows = torch.randint(len(codes), (batch,))
        places = torch.arange(tokens).expand(batch, -1)
        if orders == "random":
            places = torch.rand(batch, tokens).argsort(dim=1)
        logits = network(codes[rows], places, labels[rows])
        return F.cross_entropy(logits.flatten(0, 1), codes[rows].gather(1, places).flatten())

    return loss


def next_scale(network: Any, tokenizer: Any, pixels: Tensor, labels: Tensor, batch: int) -> Loss:
    """Cross-entropy of the tokens of each scale, given the scales before it."""
    _tell_classes_apart(network.class_emb)
    with torch.no_grad():
        codes = tokenizer.quantize(tokenizer.encode(pixels))
        inputs = tokenizer.quantize.inputs(codes)

    def loss() -> Tensor:
        rows = torch.randint(len(codes), (batch,))
        logits = network(inputs[rows], labels[rows])
        return F.cross_entropy(logits.flatten(0, 1), codes[rows].flatten())

    return loss


def named_class(network: Any, pixels: Tensor, labels: Tensor, batch: int) -> Loss:
    """Cross-entropy of the class, by an image classifier of `transformers`."""

    def loss() -> Tensor:
        rows = torch.randint(len(labels), (batch,))
        return F.cross_entropy(network(pixels[rows]).logits, labels[rows])

    return loss


def noise(network: Any, autoencoder: Any, pixels: Tensor, labels: Tensor, batch: int) -> Loss:
    """Diffusion's: the squared error of eps at a random timestep."""
    draw = _latents(network, autoencoder, pixels)
    signals, noises = (torch.from_numpy(table).float() for table in linear_schedule())

    def loss() -> Tensor:
        rows = torch.randint(len(labels), (batch,))
        latent = draw(rows)
        eps = torch.randn_like(latent)
        t = (len(signals) * _times(batch)).long().clamp(max=len(signals) - 1)
        noised = signals[t].view(-1, 1, 1, 1) * latent + noises[t].view(-1, 1, 1, 1) * eps
        return F.mse_loss(network.predict(noised, t, labels[rows]), eps)

    return loss


def velocity(network: Any, autoencoder: Any, pixels: Tensor, labels: Tensor, batch: int) -> Loss:
    """Flow's: the squared error of the velocity at a random t."""
    draw = _latents(network, autoencoder, pixels)

    def loss() -> Tensor:
        rows = torch.randint(len(labels), (batch,))
        latent = draw(rows)
        eps = torch.randn_like(latent)
        t = _times(batch)
        signal = t.view(-1, 1, 1, 1)
        noised = signal * latent + (1 - signal) * eps
        return F.mse_loss(network.predict(noised, t, labels[rows]), latent - eps)

    return loss


def linear_schedule() -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the cumulated alphas and of one minus them: float64 [1000] each.

    The linear schedule of DDPM and DiT, beta = 1e-4 .. 0.02.
    """
    cumulated = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    return np.sqrt(cumulated), np.sqrt(1 - cumulated)


def _times(batch: int) -> Tensor:
    """Uniform in [0, 1], one from each of `batch` equal parts: the loss varies less by batch.

    The sampler of variational diffusion models (https://arxiv.org/abs/2107.00630), each part with
    a draw of its own.
    """
    return (torch.arange(batch) + torch.rand(batch)) / batch


def _latents(network: Any, autoencoder: Any, pixels: Tensor) -> Callable[[Tensor], Tensor]:
    """Fresh samples of some images' latents, scaled; the network is readied for training."""
    _tell_classes_apart(network.y_embedder.embedding_table)
    with torch.no_grad():
        mean, deviation = posterior(autoencoder, pixels)

    def draw(rows: Tensor) -> Tensor:
        latent: Tensor = mean[rows] + deviation[rows] * torch.randn_like(mean[rows])
        return latent * autoencoder.scaling

    return draw


def _tell_classes_apart(classes: nn.Embedding) -> None:
    nn.init.normal_(classes.weight, std=_CLASS_DEVIATION)
