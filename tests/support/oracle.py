"""Plain, slow, obviously right scorers: what the fast ones must agree with.

They read weights from a state dict and follow the paper's formulas one class, one trial, one
position at a time; nothing of genclass is imported but the draws' definition.
"""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor


def randar_log_likelihood(
    weights: dict[str, Tensor],
    heads: int,
    grid: int,
    codes: list[int],
    order: list[int],
    label: int,
) -> float:
    """log p_o(x | label): the official sequence of 2n+1 tokens, all of it, in float64."""
    w = {key: value.double() for key, value in weights.items()}
    layers = 1 + max(int(k.split(".")[1]) for k in w if k.startswith("layers."))
    width = w["tok_embeddings.weight"].shape[1]
    head = width // heads

    def turn(vector: Tensor, place: int | None) -> Tensor:
        """Rotate neighbouring pairs of every head by the grid place; no place: zero."""
        if place is None:
            return torch.zeros_like(vector)
        turned = vector.clone()
        for h in range(heads):
            for pair in range(head // 2):
                quarter = head // 4
                coordinate = place // grid if pair < quarter else place % grid
                angle = coordinate * 10000 ** (-2 * (pair % quarter) / (head // 2))
                at = h * head + 2 * pair
                z = complex(vector[at], vector[at + 1]) * cmath.exp(1j * angle)
                turned[at], turned[at + 1] = z.real, z.imag
        return turned

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean() + 1e-5) * weight

    instruction = w["pos_instruct_embeddings"][0]
    sequence = [w["cls_embedding.embedding_table.weight"][label]]
    places: list[int | None] = [None]
    for place in order:
        sequence += [turn(instruction, place), w["tok_embeddings.weight"][codes[place]]]
        places += [place, place]
    for layer in range(layers):
        name = f"layers.{layer}."
        queries, keys, values = [], [], []
        for x, place in zip(sequence, places, strict=True):
            fused = w[name + "attention.wqkv.weight"] @ norm(x, w[name + "attention_norm.weight"])
            q, k, v = fused.split(width)
            queries.append(turn(q, place))
            keys.append(turn(k, place))
            values.append(v)
        after = []
        for i, x in enumerate(sequence):
            mixed = torch.zeros(width, dtype=torch.float64)
            for h in range(heads):
                part = slice(h * head, (h + 1) * head)
                scores = torch.stack([queries[i][part] @ keys[j][part] for j in range(i + 1)])
                attention = torch.softmax(scores / math.sqrt(head), dim=0)
                mixed[part] = sum(attention[j] * values[j][part] for j in range(i + 1))
            x = x + w[name + "attention.wo.weight"] @ mixed
            y = norm(x, w[name + "ffn_norm.weight"])
            gate = w[name + "feed_forward.w1.weight"] @ y
            up = w[name + "feed_forward.w3.weight"] @ y
            after.append(x + w[name + "feed_forward.w2.weight"] @ (gate * torch.sigmoid(gate) * up))
        sequence = after
    total = 0.0
    for step, place in enumerate(order):
        logits = w["output.weight"] @ norm(sequence[1 + 2 * step], w["norm.weight"])
        total += float(torch.log_softmax(logits, dim=0)[codes[place]])
    return total


def diffusion_score(network, latent: Tensor, noise: Tensor, timestep: int, label: int) -> float:
    """- ||eps - eps_theta(x_t, t, c)||^2, DiT's linear schedule written out as in DDPM."""
    kept = 1.0
    for step in range(timestep + 1):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
    noised = math.sqrt(kept) * latent + math.sqrt(1 - kept) * noise
    with torch.no_grad():
        output = network(noised, torch.tensor([timestep]), torch.tensor([label]))
    return -float(((noise - output[:, : latent.shape[1]]) ** 2).double().sum())


def flow_score(network, latent: Tensor, noise: Tensor, t: float, label: int, told: float) -> float:
    """The same for SiT: x_t = t x + (1 - t) eps, and eps = x_t - t u."""
    noised = t * latent + (1 - t) * noise
    with torch.no_grad():
        velocity = network(noised, torch.tensor([told]), torch.tensor([label]))
    estimate = noised - t * velocity[:, : latent.shape[1]]
    return -float(((noise - estimate) ** 2).double().sum())


def repa_score(network, latent: Tensor, noise: Tensor, t: float, label: int) -> float:
    """SiT + REPA: x_t = (1 - t) x + t eps, and eps = x_t + (1 - t) u."""
    noised = (1 - t) * latent + t * noise
    with torch.no_grad():
        velocity = network(noised, torch.tensor([t]), torch.tensor([label]))
    estimate = noised + (1 - t) * velocity
    return -float(((noise - estimate) ** 2).double().sum())
