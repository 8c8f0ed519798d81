"""LlamaGen, a decoder-only transformer that predicts image tokens in raster order.

The class-conditional network of "Autoregressive Model Beats Diffusion: Llama for Scalable Image
Generation" (https://github.com/FoundationVision/LlamaGen, autoregressive/models/gpt.py), with the
parameter names of its released checkpoints (c2i_L_256), so that `load_state_dict(strict=True)`
accepts them. It is not RandAR in raster order: the network reads

    position   0      1    2    ...  n-1
    token      class  x_0  x_1  ...  x_(n-2)
    predicts   x_0    x_1  x_2  ...  x_(n-1)

and every token is rotated by its own place in the grid: no place says which token is next. The
last token is predicted, never read.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.llama import Block, ClassEmbedding, LlamaConfig, RMSNorm, rotary_table, start
from genclass.models.tokens import TokenPredictor


@dataclass(frozen=True)
class LlamaGenConfig(LlamaConfig):
    """Shape of a LlamaGen; `LlamaGenConfig(layers=24, heads=16, width=1024)` is c2i_L_256."""


class LlamaGen(TokenPredictor):
    """LlamaGen; starts with weights N(0, 0.02) and a head of zeros, as it is trained.

    Codes lie in raster order; all that takes codes also takes the first m <= n of them.
    """

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config = config
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

    def forward(self, codes: Tensor, classes: Tensor) -> Tensor:
        """Logits of every token: the training path.

        codes: [b, m] long; classes: [b] long -> [b, m, vocabulary].
        """
        return self.head_logits(self._features(codes, classes))

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, classes: Tensor) -> Tensor:
        """log p(token | tokens before it, class) of one image, for many classes.

        codes: [m] long; classes: [c] long -> [c, m] float32.
        """
        codes = codes.unsqueeze(0)
        return self._log_probs(self._features(codes, classes), codes, self.config.vocabulary)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image and class.

        codes: [b, m] long; classes: [b] long -> [b, m] float32.
        """
        if len(codes) != len(classes):
            raise ValueError(
                f"as many images as classes are needed, got {len(codes)} images, "
                f"{len(classes)} classes"
            )
        return self._log_probs(self._features(codes, classes), codes, self.config.vocabulary)

    def _features(self, codes: Tensor, classes: Tensor) -> Tensor:
        """What the head reads.

        codes: [s, m] long, s being b or 1 (shared by all classes, and then embedded once);
        classes: [b] long -> [b, m, width].
        """
        config = self.config
        if not 1 <= codes.shape[1] <= config.tokens:
            raise ValueError(
                f"codes must be the first 1 to {config.tokens} of an image, got {codes.shape[1]}"
            )
        read = codes[:, :-1]
        x = torch.cat(
            [
                self.cls_embedding(classes).unsqueeze(1),
                self.tok_embeddings(read).expand(len(classes), -1, -1),
            ],
            dim=1,
        )  # [b, m, width]
        x = F.dropout(x, config.dropout, self.training)
        places = torch.arange(read.shape[1], device=codes.device).unsqueeze(0)
        cos, sin = rotary_table(places, config.grid, config.width // config.heads)
        # The class token's are zero, as in the official code: its query and key vanish, so all
        # may attend to it, with score 0.
        rotary = F.pad(cos, (0, 0, 0, 0, 1, 0)), F.pad(sin, (0, 0, 0, 0, 1, 0))
        for layer in self.layers:
            x = layer(x, rotary)
        features: Tensor = self.norm(x)
        return features
