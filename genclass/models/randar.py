"""RandAR, a decoder-only transformer that predicts image tokens in any order.

The network of "RandAR: Decoder-only Autoregressive Visual Generation in Random Orders"
(https://github.com/ziqipang/RandAR, RandAR/model/randar_gpt.py), with the parameter names of
its released checkpoints, so that `load_state_dict(strict=True)` accepts them.

An image is n = grid**2 tokens; an order o is a permutation of its n positions. The network reads

    position   0      1       2        3       4             2n-1
    token      class  p(o_1)  x(o_1)   p(o_2)  x(o_2)  ...   p(o_n)

where p(o) is one learned vector, rotated to say "the token at grid position o is next". Its
output at p(o_i) is the distribution of x(o_i) given the class and x(o_1) .. x(o_{i-1}). The
official sequence ends with one more token, x(o_n), which nothing that counts ever attends to:
it is left out, and so are the last layer's outputs anywhere but at the p tokens.

The same network, with the same weights, predicts every hidden token from a visible set alone
("masked diffusion", RandAR_DM of the paper's repository). With the b first tokens of an order
visible it reads

    position   0      1       2       ...  2b      2b+1        2b+2             n+b
    token      class  p(o_1)  x(o_1)  ...  x(o_b)  p(o_{b+1})  p(o_{b+2})  ...  p(o_n)

where all up to 2b is causal, and each later position sees those and itself only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llama import (
    Block,
    ClassEmbedding,
    LlamaConfig,
    RMSNorm,
    Rotary,
    rotary_table,
    rotate,
    start,
)
from genclass.models.tokens import TokenPredictor


@dataclass(frozen=True)
class RandARConfig(LlamaConfig):
    """Shape of a RandAR; `RandARConfig(layers=24, heads=16, width=1024)` is RandAR-L."""


def interleave(rotary: Rotary) -> Rotary:
    """From a table over n steps to the 2n positions [class, p, x, p, x, .., p].

    Both tokens of a step carry its grid position. The class token's cosines and sines are zero,
    as in the official code: its query and key vanish, so all may attend to it, with score 0.
    """
    cos, sin = (F.pad(t.repeat_interleave(2, dim=1)[:, :-1], (0, 0, 0, 0, 1, 0)) for t in rotary)
    return cos, sin


class RandAR(TokenPredictor):
    """RandAR; starts with weights N(0, 0.02) and a head of zeros, as it is trained.

    Codes lie in raster order, code i belonging to grid position (i // grid, i % grid): the token
    decoded at step i of an order is codes[order[i]].
    """

    def __init__(self, config: RandARConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_instruct_embeddings = nn.Parameter(torch.empty(1, config.width))
        self.cls_embedding = ClassEmbedding(config.classes, config.width)
        self.tok_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)
        start(self)
        nn.init.zeros_(self.output.weight)

    def scoring_blocks(self) -> Iterable[nn.Module]:
        return self.layers

    def head_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.output(features)
        return logits

    def forward(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """Logits of every token, in order of decoding: the training path.

        codes, orders: [b, n] long; classes: [b] long -> [b, n, vocabulary].
        """
        logits: Tensor = self.output(self._features(codes.gather(1, orders), orders, classes))
        return logits

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, order: Tensor, classes: Tensor) -> Tensor:
        """log p(token | tokens before it, class) of one image in one order, for many classes.

        codes, order: [n] long; classes: [c] long -> [c, n] float32, in order of decoding.
        """
        return self._log_probs_in_order(codes.unsqueeze(0), order.unsqueeze(0), classes)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, orders: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image, order and class.

        codes: [b, n] long; orders: [b, m] long, whole orders or the first m places of them;
        classes: [b] long -> [b, m] float32, in order of decoding.
        """
        if not len(codes) == len(orders) == len(classes):
            raise ValueError(
                f"as many images as orders and classes are needed, got {len(codes)} images, "
                f"{len(orders)} orders, {len(classes)} classes"
            )
        return self._log_probs_in_order(codes, orders, classes)

    @torch.no_grad()
    def hidden_log_probs(
        self, codes: Tensor, order: Tensor, visible: int, classes: Tensor
    ) -> Tensor:
        """log p(hidden token | the visible tokens, class) of one image for many classes.

        codes, order: [n] long; visible: the first so many places of the order are, 0 .. n - 1;
        classes: [c] long -> [c, n - visible] float32, in the order's order.
        """
        return self._log_probs_in_order(codes.unsqueeze(0), order.unsqueeze(0), classes, visible)

    @torch.no_grad()
    def hidden_log_probs_batch(
        self, codes: Tensor, orders: Tensor, visible: int, classes: Tensor
    ) -> Tensor:
        """The same where every sequence has its own image, order and class, but all as many
        visible tokens.

        codes, orders: [b, n] long; classes: [b] long -> [b, n - visible] float32.
        """
        if not len(codes) == len(orders) == len(classes):
            raise ValueError(
                f"as many images as orders and classes are needed, got {len(codes)} images, "
                f"{len(orders)} orders, {len(classes)} classes"
            )
        return self._log_probs_in_order(codes, orders, classes, visible)

    def _features(
        self, decoded: Tensor, orders: Tensor, classes: Tensor, visible: int | None = None
    ) -> Tensor:
        """What the head reads, at the predicting positions.

        decoded, orders: [s, m] long, the first m <= n tokens in order of decoding, s being b or 1
        (shared by all classes, and then embedded and rotated once); classes: [b] long
        -> [b, m, width]; visible: so many tokens only are seen -> [b, m - visible, width].
        """
        config = self.config
        if decoded.shape != orders.shape or not 1 <= orders.shape[1] <= config.tokens:
            raise ValueError(
                f"codes and orders must have the same 1 to {config.tokens} tokens a sequence, "
                f"got {tuple(decoded.shape)} and {tuple(orders.shape)}"
            )
        steps = rotary_table(orders, config.grid, config.width // config.heads)
        instruction = self.pos_instruct_embeddings.view(1, 1, config.heads, -1)
        instructions = rotate(instruction, steps).flatten(2)  # [s, m, width]
        if visible is None:
            prefix, known = None, decoded
        elif 0 <= visible < orders.shape[1]:
            prefix, known = 1 + 2 * visible, decoded[:, :visible]
        else:
            raise ValueError(
                f"0 to {orders.shape[1] - 1} tokens may be visible, so that one is hidden, "
                f"got {visible}"
            )
        pairs = torch.stack(
            [instructions[:, : known.shape[1]], self.tok_embeddings(known)], dim=2
        ).flatten(1, 2)
        rotary = interleave(steps)  # [s, 2m, ..]
        if prefix is None:
            told = pairs[:, :-1]
        else:
            told = torch.cat([pairs, instructions[:, visible:]], dim=1)
            cos, sin = (
                torch.cat([both[:, :prefix], one[:, visible:]], dim=1)
                for both, one in zip(rotary, steps, strict=True)
            )
            rotary = cos, sin
        x = torch.cat(
            [self.cls_embedding(classes).unsqueeze(1), told.expand(len(classes), -1, -1)], dim=1
        )  # [b, 2m or prefix + m - visible, width]
        x = F.dropout(x, config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotary, predictors_only=index == config.layers - 1, prefix=prefix)
        features: Tensor = self.norm(x)
        return features

    def _log_probs_in_order(
        self, codes: Tensor, orders: Tensor, classes: Tensor, visible: int | None = None
    ) -> Tensor:
        """[s, n], [s, m], [b] -> [b, m] float32, or of the hidden tokens only."""
        decoded = codes.gather(1, orders)
        features = self._features(decoded, orders, classes, visible)
        return self._log_probs(features, decoded[:, visible or 0 :], self.config.vocabulary)
