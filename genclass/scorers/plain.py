"""The plain way to score: what the official code computes, for the bench to compare with.

Every function scores one image in one trial under some classes: float32 [classes].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llama import Rotary, rotary_table, rotate
from genclass.models.randar import interleave
from genclass.scorers.logits import LogitsScorer
from genclass.scorers.masked import HiddenTokensScorer, MaskingScorer, mean_over_masked
from genclass.scorers.mean_flow import MeanFlowScorer
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


def ordered_logits(
    scorer: OrderedScorer, prepared: Prepared, trial: int, classes: Tensor
) -> Tensor:
    """RAR: the same; it has no positions besides those that predict."""
    order = scorer.order(prepared.draws, trial).to(scorer.device)
    codes = prepared.encoded.expand(len(classes), -1)
    logits = scorer.network(codes, order.expand(len(classes), -1), classes)
    return _log_likelihood(logits, codes[:, order])


def masked(scorer: MaskingScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """MaskGIT: the same at all places, masked or not."""
    mask = scorer.mask(prepared.draws, trial).to(scorer.device).expand(len(classes), -1)
    codes = prepared.encoded.expand(len(classes), -1)
    probabilities = scorer.network(codes, mask, classes).softmax(dim=-1)
    log_p = probabilities.gather(2, codes.unsqueeze(2)).log().squeeze(2)
    return mean_over_masked(log_p, mask)


def hidden_tokens(
    scorer: HiddenTokensScorer, prepared: Prepared, trial: int, classes: Tensor
) -> Tensor:
    """RandAR by masked diffusion: the last layer and the head at all positions."""
    network, batch = scorer.network, len(classes)
    order, visible = scorer.order(prepared.draws, trial)
    order, prefix = order.to(scorer.device), 1 + 2 * visible
    decoded = prepared.encoded[order].expand(batch, -1)
    steps = _steps(network, order.expand(batch, -1))
    instructions = _instructions(network, steps)
    x, rotary = _interleaved(network, decoded, instructions, steps, classes)
    x = torch.cat([x[:, :prefix], instructions[:, visible:]], dim=1)
    cos, sin = (
        torch.cat([both[:, :prefix], one[:, visible:]], dim=1)
        for both, one in zip(rotary, steps, strict=True)
    )
    for layer in network.layers:
        x = layer.forward(x, (cos, sin), False, prefix)
    probabilities = network.output(network.norm(x)).float().softmax(dim=-1)[:, prefix:]
    chosen = probabilities.gather(2, decoded[:, visible:].unsqueeze(2))
    return chosen.log().mean(dim=(1, 2))


def mean_flow(scorer: MeanFlowScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """MeanFlow: each class its own latent."""
    batch, step = len(classes), scorer.noising(scorer.timesteps[trial])
    noise = scorer.noise(prepared, trial)
    noised = (step.signal * prepared.encoded + step.noise * noise).to(scorer.dtype)
    time, start = (torch.full((batch,), t, device=noised.device) for t in (step.time, step.start))
    average = scorer.network(noised.expand(batch, -1, -1, -1), time, classes, start).float()
    errors = (average - scorer.target(prepared.encoded, noise)) ** 2
    return -step.weight * errors.flatten(1).sum(dim=1)


def named_class(scorer: LogitsScorer, prepared: Prepared, trial: int, classes: Tensor) -> Tensor:
    """An image classifier: its library alone; nothing is gained over it."""
    pixels = scorer.pixels(prepared.image).unsqueeze(0).to(scorer.device, scorer.dtype)
    return scorer.network(pixels).logits[0].float().softmax(dim=0).log()[classes]


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
    decoded = codes[order].expand(len(classes), -1)
    steps = _steps(network, order.expand(len(classes), -1))
    x, rotary = _interleaved(network, decoded, _instructions(network, steps), steps, classes)
    for layer in network.layers:
        x = layer.forward(x, rotary)  # a call would run the compiled block
    logits = network.output(network.norm(x)).float()
    if twice:
        F.cross_entropy(logits[:, 1::2].flatten(0, 1), decoded.flatten())
    probabilities = logits.softmax(dim=-1)[:, 1::2]
    return probabilities.gather(2, decoded.unsqueeze(2)).log().sum(dim=(1, 2))


def _steps(network: Any, orders: Tensor) -> Rotary:
    """Of every token in order of decoding, [b, n]."""
    config = network.config
    return rotary_table(orders, config.grid, config.width // config.heads)


def _instructions(network: Any, steps: Rotary) -> Tensor:
    """Which place is next, [b, n, width]."""
    instruction = network.pos_instruct_embeddings.view(1, 1, network.config.heads, -1)
    return rotate(instruction, steps).flatten(2)


def _interleaved(
    network: Any, decoded: Tensor, instructions: Tensor, steps: Rotary, classes: Tensor
) -> tuple[Tensor, Rotary]:
    """What RandAR reads at 2n + 1 positions, [b, 2n + 1, width], and where they lie."""
    pairs = torch.stack([instructions, network.tok_embeddings(decoded)], dim=2).flatten(1, 2)
    cos, sin = interleave(steps)
    rotary = (torch.cat([cos, cos[:, -1:]], dim=1), torch.cat([sin, sin[:, -1:]], dim=1))
    return torch.cat([network.cls_embedding(classes).unsqueeze(1), pairs], dim=1), rotary


def plain_squared_error(
    network: Any, noised: Tensor, noise: Tensor, t: float, classes: Tensor
) -> Tensor:
    """DiT as the official code runs it: each class its own latent, all channels computed."""
    batch = len(classes)
    times = torch.full((batch,), t, device=noised.device)
    output = network(noised.expand(batch, -1, -1, -1), times, classes)
    guess = output[:, : network.config.channels].float()
    return ((guess - noise) ** 2).flatten(1).sum(dim=1)
