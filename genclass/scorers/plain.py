"""The plain way to score: what the official code computes, for the bench to compare with.

Every function scores one image in one trial under some classes: float32 [classes].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llama import rotary_table, rotate
from genclass.models.randar import interleave
from genclass.scorers.next_scale import NextScaleScorer
from genclass.scorers.ordered import OrderedScorer
from genclass.scorers.raster import RasterScorer
from genclass.scorers.scorer import Prepared
from genclass.scorers.timestep import TimestepScorer


def ordered(scorer: OrderedScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """RandAR: see `plain_log_likelihood`."""
    order = scorer.order(prepared.draws, trial).to(scorer.device)
    return plain_log_likelihood(scorer.network, prepared.encoded, order, classes)


def ordered_as_official(
    scorer: OrderedScorer, prepared: Prepared, trial: int, classes: Tensor
) -> Tensor:
    """RandAR with all that the official script does: the image encoded anew, a loss thrown away.

    Its products are TF32 with weights rounded to bfloat16: its autocast's target is float32.
    """
    prepared = scorer.prepare(prepared.image, prepared.draws)
    order = scorer.order(prepared.draws, trial).to(scorer.device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return plain_log_likelihood(scorer.network, prepared.encoded, order, classes, twice=True)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def diffusion(scorer: TimestepScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """DiT: see `plain_squared_error`."""
    step = scorer.noising(scorer.timesteps[trial])
    noise = scorer.noise(prepared, trial)
    noised = (step.signal * prepared.encoded + step.noise * noise).to(scorer.dtype)
    return -plain_squared_error(scorer.network, noised, noise, step.time, classes)


def raster(scorer: RasterScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """LlamaGen: every class embeds the tokens for itself; the head and a softmax at all of them."""
    codes = prepared.encoded.expand(len(classes), -1)
    return _log_likelihood(scorer.network(codes, classes), codes)


def next_scale(scorer: NextScaleScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """VAR: the same."""
    tokens = scorer.tokens(prepared, trial)
    inputs = tokens.inputs.expand(len(classes), -1, -1)
    return _log_likelihood(scorer.network(inputs, classes), tokens.codes.expand(len(classes), -1))


def _log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """[classes, n, vocabulary], [classes, n] -> float32 [classes]."""
    probabilities = logits.float().softmax(dim=-1)
    return probabilities.gather(2, codes.unsqueeze(2)).log().sum(dim=(1, 2))


def plain_log_likelihood(
    network: Any, codes: Tensor, order: Tensor, classes: Tensor, twice: bool = False
) -> Tensor:
    """RandAR as the official code runs it: 2n + 1 positions, the head at all of them, softmax, log.

    codes, order: int64 [n]; classes: int64 [c] -> float32 [c]. twice: compute the cross-entropy,
    which nothing reads, too.
    """
    config, batch = network.config, len(classes)
    decoded = codes[order].expand(batch, -1)
    steps = rotary_table(order.expand(batch, -1), config.grid, config.width // config.heads)
    instruction = network.pos_instruct_embeddings.view(1, 1, config.heads, -1)
    instructions = rotate(instruction, steps).flatten(2)
    pairs = torch.stack([instructions, network.tok_embeddings(decoded)], dim=2).flatten(1, 2)
    x = torch.cat([network.cls_embedding(classes).unsqueeze(1), pairs], dim=1)
    cos, sin = interleave(steps)
    rotary = (torch.cat([cos, cos[:, -1:]], dim=1), torch.cat([sin, sin[:, -1:]], dim=1))
    for layer in network.layers:
        x = layer.forward(x, rotary)  # a call would run the compiled block
    logits = network.output(network.norm(x)).float()
    if twice:
        F.cross_entropy(logits[:, 1::2].flatten(0, 1), decoded.flatten())
    probabilities = logits.softmax(dim=-1)[:, 1::2]
    return probabilities.gather(2, decoded.unsqueeze(2)).log().sum(dim=(1, 2))


def plain_squared_error(
    network: Any, noised: Tensor, noise: Tensor, t: float, classes: Tensor
) -> Tensor:
    """DiT as the official code runs it: each class its own latent, all channels computed."""
    batch = len(classes)
    times = torch.full((batch,), t, device=noised.device)
    output = network(noised.expand(batch, -1, -1, -1), times, classes)
    guess = output[:, : network.config.channels].float()
    return ((guess - noise) ** 2).flatten(1).sum(dim=1)
