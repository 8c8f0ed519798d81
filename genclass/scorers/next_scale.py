"""The next-scale scorer: log p(image | class) of token maps; a trial is one sample of the image.

Sample 0 is the image's latent, the others are the latent plus noise, and each is quantised anew, as
A-VARC+ does (https://github.com/Yi-Chung-Chen/A-VARC, eval.py). All classes share the samples.
`part` scores the first scales alone, of which the log p are summed.

Departures from that script, all on purpose: only the scales that are scored are quantised anew; the
clean sample is scored once, not in every stage; sums are in float64 (its float32 sums have steps of
up to 5e-4); the noise is a function of the image and the sample (there it depends on the batch and
on all images before).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genclass.data.images import center_crop, lanczos_crop, to_tensor
from genclass.errors import GenclassError
from genclass.families.card import System
from genclass.families.var import NextScaleScoring
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared, Scorer, distinct


@dataclass(frozen=True)
class Tokens:
    """One sample of an image, as the network reads it: all scales, or some first ones."""

    codes: Tensor  # int64 [tokens]
    inputs: Tensor  # float32 [tokens - 1, code_width]


@dataclass(frozen=True)
class Encoded:
    """An image: its latent before quantisation, [code_width, s, s], and the tokens of sample 0."""

    latent: Tensor
    tokens: Tokens


class NextScaleScorer(Scorer):
    """VAR with its tokenizer. The network is in float32 or bfloat16, the tokenizer in float32."""

    def __init__(self, system: System, network: Any, encoder: Any, device: torch.device) -> None:
        ours, theirs = network.config, encoder.config
        if (ours.sides, ours.code_width) != (theirs.sides, theirs.code_width):
            raise GenclassError(
                f"the tokenizer's token maps have the sides {list(theirs.sides)} and codes of "
                f"{theirs.code_width} numbers, the network reads {list(ours.sides)} and "
                f"{ours.code_width}: they were not trained together"
            )
        if ours.vocabulary != theirs.codebook:
            raise GenclassError(
                f"the tokenizer has {theirs.codebook} codes, but the network a vocabulary of "
                f"{ours.vocabulary}: they were not trained together"
            )
        if system.image_size != (size := theirs.stride * theirs.sides[-1]):
            raise GenclassError(
                f"image_size is {system.image_size}, but the last token map is of "
                f"{theirs.sides[-1]} x {theirs.sides[-1]} tokens, {size} pixels: correct "
                f"image_size or the sides"
            )
        assert isinstance(system.options, NextScaleScoring)
        self.options = system.options
        self.system = system
        self.device = device
        self.network = network.eval().to(device, getattr(torch, self.options.dtype))
        self.encoder = encoder.eval().to(device)

    def compile(self) -> None:
        self.network.compile_scoring()

    @torch.inference_mode()
    def prepare(self, image: Image.Image, draws: Draws) -> Prepared:
        crop = lanczos_crop if self.options.crop == "lanczos" else center_crop
        pixels = to_tensor(crop(image, self.system.image_size)).unsqueeze(0)
        latent = self.encoder.encode(pixels.to(self.device, non_blocking=True))[0]
        return Prepared(image, draws, Encoded(latent, self.tokenize(latent)))

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: Tensor,
        part: int | None = None,
    ) -> Tensor:
        pairs, which = distinct(prepared, trials)
        tokens = [self.tokens(image, trial, part) for image, trial in pairs]
        if len(tokens) == 1:
            log_p = self.network.token_log_probs(tokens[0].codes, tokens[0].inputs, classes)
        else:
            places = torch.tensor(which).to(self.device, non_blocking=True)
            codes = torch.stack([each.codes for each in tokens])[places]
            inputs = torch.stack([each.inputs for each in tokens])[places]
            log_p = self.network.token_log_probs_batch(codes, inputs, classes)
        total: Tensor = log_p.sum(dim=1, dtype=torch.float64)
        return total.float()

    @torch.inference_mode()
    def evidence(self, prepared: Prepared, trials: range, one: int, other: int) -> Tensor:
        pair = torch.tensor([one, other], device=self.device)
        total = torch.zeros(self.network.config.tokens)
        for trial in trials:
            tokens = self.tokens(prepared, trial)
            log_p = self.network.token_log_probs(tokens.codes, tokens.inputs, pair).cpu()
            total += log_p[0] - log_p[1]
        return evidence_map(total / len(trials), self.network.config.sides)

    def tokens(self, prepared: Prepared, trial: int, scales: int | None = None) -> Tokens:
        """What the network reads of one sample: of its first scales (None: of all)."""
        encoded: Encoded = prepared.encoded
        if trial == 0 or self.options.noise_deviation == 0:
            if scales is None:
                return encoded.tokens
            end = self.network.config.ends[scales - 1]
            return Tokens(encoded.tokens.codes[:end], encoded.tokens.inputs[: end - 1])
        noise = prepared.draws.normal(tuple(encoded.latent.shape), "latent_noise", trial)
        noise = self.options.noise_deviation * noise.to(self.device, non_blocking=True)
        return self.tokenize(encoded.latent + noise, scales)

    def tokenize(self, latent: Tensor, scales: int | None = None) -> Tokens:
        """Codes of the first scales (None: of all) of a latent [code_width, s, s].

        One latent at a time, so that no code depends on others in a batch.
        """
        codes = self.encoder.quantize(latent.unsqueeze(0), scales)
        return Tokens(codes[0], self.encoder.quantize.inputs(codes)[0])


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
