"""How VAR scores classes: by log p of an image's token maps, and A-VARC+'s smoothing and stages.

The score of a class is the sum of log p over the tokens of the first scales, in the mean over
samples of the image: sample 0 is its latent, the others are the latent plus noise, and each is
quantised anew (https://github.com/Yi-Chung-Chen/A-VARC, eval.py). All classes share the samples.

Departures from that script, all on purpose: only the scales that a stage scores are quantised; a
stage may keep more classes than it has (the script crashes); sums are in float64 (its float32 sums
have steps of up to 5e-4); whose noise it is, the caller says (there it depends on the batch and on
all images before).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genclass.models.var import VAR
from genclass.models.var_vq import Quantizer
from genclass.scorers.stages import Stage


@dataclass(frozen=True)
class Tokens:
    """Samples of one image, as the network reads them: of some first scales."""

    codes: Tensor  # int64 [samples, tokens]
    inputs: Tensor  # float32 [samples, tokens - 1, code_width]


@dataclass(frozen=True)
class StageScores:
    """What one stage found."""

    candidates: Tensor  # int64 [c]: classes, as the stage before ranked them
    scores: Tensor  # float64 [c]
    kept: Tensor  # int64 [k]: the best of them, best first


def samples(latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """The latent, and the latent with noise.

    latent: [code_width, s, s], before quantisation; noise: standard normal
    [samples - 1, code_width, s, s] -> [samples, code_width, s, s].
    """
    return torch.cat([latent.unsqueeze(0), latent + sigma * noise])


def tokenize(quantizer: Quantizer, latents: Tensor, scales: int | None = None) -> Tokens:
    """Codes of the first scales (None: of all), and what the network reads of them.

    latents: [samples, code_width, s, s].
    """
    codes = quantizer(latents, scales)
    return Tokens(codes, quantizer.inputs(codes))


def log_likelihoods(network: VAR, tokens: Tokens, classes: Tensor, class_batch: int) -> Tensor:
    """The mean over the samples of log p(tokens | class): float64 [classes].

    classes: int64 [classes] on the network's device; class_batch: sequences at once.
    """
    per_sample = [
        torch.cat(
            [
                network.token_log_probs(codes, inputs, some).double().sum(dim=1)
                for some in classes.split(class_batch)
            ]
        )
        for codes, inputs in zip(tokens.codes, tokens.inputs, strict=True)
    ]
    return torch.stack(per_sample).mean(dim=0)


def run_stages(
    stages: Sequence[Stage],
    classes: Tensor,
    score: Callable[[int, Stage, Tensor], Tensor],
) -> list[StageScores]:
    """Score all classes in the first stage, and in each later one what the one before kept.

    classes: int64 [c]; score: (index of the stage, stage, candidates int64 [m]) -> float64 [m],
    higher is better. Among equals the class that ranked higher before goes first.
    """
    found = []
    candidates = classes
    for index, stage in enumerate(stages):
        scores = score(index, stage, candidates)
        ranked = scores.argsort(descending=True, stable=True)
        kept = candidates[ranked[: stage.keep]]
        found.append(StageScores(candidates, scores, kept))
        candidates = kept
    return found


def evidence_map(log_ratios: Tensor, sides: Sequence[int]) -> Tensor:
    """Where the image speaks for one class against another, all scales laid over each other.

    log_ratios: [tokens], a difference of token log p, over the tokens of the first scales;
    sides: of all token maps -> [s, s], s the last side. A token's value is spread evenly over the
    area that it covers, so that the map's sum is that of the ratios.
    """
    full = sides[-1]
    total = log_ratios.new_zeros(full, full)
    begin = 0
    for side in sides:
        if begin == len(log_ratios):
            break
        edges = torch.arange(full + 1, device=log_ratios.device, dtype=log_ratios.dtype)
        cells = torch.arange(side + 1, device=log_ratios.device, dtype=log_ratios.dtype)
        cells = cells * full / side
        upper = torch.minimum(edges[1:, None], cells[None, 1:])
        lower = torch.maximum(edges[:-1, None], cells[None, :-1])
        share = (upper - lower).clamp(min=0) * side / full  # [full, side], of each token's side
        values = log_ratios[begin : begin + side**2].view(side, side)
        total = total + share @ values @ share.T
        begin += side**2
    return total
