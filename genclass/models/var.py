"""VAR, a transformer that predicts an image's token maps scale after scale.

The network of "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale
Prediction" (https://github.com/FoundationVision/VAR, models/var.py), with the parameter names of
its released checkpoints (var_d16 .. var_d36), so that `load_state_dict(strict=True)` accepts them.

An image is S token maps of growing sides. The place of a token holds what the smaller maps say of
the latent there (`VARVQ.quantize.inputs`), and the output at a place is the distribution of the
token of this place: there is no shift, and the tokens of a map are independent given the smaller
ones. Attention is causal by scale: a token sees its own map whole, and all smaller ones. So the
first scales can be scored alone, and are the beginning of the whole.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from genclass.models.tokens import TokenPredictor
from genclass.models.var_vq import SIDES, check_sides

_LARGEST_SCALE = math.log(100)  # of the logits of attention; learned in the logarithm


@dataclass(frozen=True)
class VARConfig:
    """Shape of a VAR; `VARConfig(layers=16, heads=16, width=1024)` is var_d16."""

    layers: int
    heads: int
    width: int
    vocabulary: int = 4096
    code_width: int = 32
    classes: int = 1000  # the class table has one row more: the null class, for training
    sides: tuple[int, ...] = SIDES  # of the token maps
    shared_modulation: bool = False  # one projection of the class for all layers: var_d36

    def __post_init__(self) -> None:
        counts = (self.layers, self.heads, self.vocabulary, self.code_width, self.classes)
        if min(*counts, self.width) < 1:
            raise ValueError(f"VAR: every size must be at least 1, got {self}")
        if self.width % self.heads:
            raise ValueError(f"VAR: width {self.width} must be a multiple of heads {self.heads}")
        check_sides(self.sides)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens of the first 1, 2, .. scales."""
        return tuple(accumulate(side**2 for side in self.sides))

    @property
    def tokens(self) -> int:
        """Tokens of all scales."""
        return self.ends[-1]


class Attention(nn.Module):
    """Self-attention, causal by scale, of queries and keys of length one."""

    zero_k_bias: Tensor

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.ends = config.ends
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, config.heads, 1, 1), math.log(4)))
        self.mat_qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        # Zero in every checkpoint, and added all the same.
        self.register_buffer("zero_k_bias", torch.zeros(config.width))
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, tokens, width], the tokens of some first scales -> the same shape."""
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        qkv = F.linear(x, self.mat_qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [b, heads, tokens, head]
        scale = self.scale_mul_1H11.float().clamp(max=_LARGEST_SCALE).exp()
        q = (F.normalize(q.float(), dim=-1) * scale).type_as(v)
        k = F.normalize(k.float(), dim=-1).type_as(v)
        mixed, begin = [], 0
        # Scale after scale, each needs no mask: fast kernels serve, and nothing is computed that
        # a mask would throw away (three eighths of the square).
        for end in self.ends[: self.ends.index(x.shape[1]) + 1]:
            mixed.append(
                F.scaled_dot_product_attention(
                    q[:, :, begin:end], k[:, :, :end], v[:, :, :end], scale=1.0
                )
            )
            begin = end
        projected: Tensor = self.proj(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """Two layers, tanh-GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return projected


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of x [b, tokens, width], scaled and shifted by class: each [b, 1, width]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Projection(nn.Sequential):
    """Of a class's vector [b, width] to several, [b, vectors x width]."""

    def __init__(self, width: int, vectors: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, vectors * width))

    @property
    def weight(self) -> Tensor:
        """[vectors x width, width]."""
        weight: Tensor = self.get_parameter("1.weight")
        return weight


class Block(nn.Module):
    """Pre-norm transformer block, modulated by the class."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.ffn = FeedForward(config.width)
        self.shared = config.shared_modulation
        if self.shared:
            self.ada_gss = nn.Parameter(torch.empty(1, 1, 6, config.width))
        else:
            self.ada_lin = Projection(config.width, 6)

    def start(self, layers: int) -> None:
        """Nearly shut gates, and less of a layer's outputs the more layers there are."""
        self.attn.proj.weight.div_(math.sqrt(2 * layers))
        self.ffn.fc2.weight.div_(math.sqrt(2 * layers))
        if self.shared:
            nn.init.normal_(self.ada_gss, std=self.ada_gss.shape[-1] ** -0.5)
            six = self.ada_gss[0, 0]
        else:
            six = self.ada_lin.weight.unflatten(0, (6, -1))
        six[:2].mul_(1e-5)
        six[2:].mul_(0.5)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [b, tokens, width]; condition: the class's vector [b, width], or what all layers'
        common projection makes of it [b, 6 width] -> [b, tokens, width].
        """
        six = condition if self.shared else self.ada_lin(condition)
        six = six.unflatten(-1, (6, -1)).unsqueeze(1)  # [b, 1, 6, width]
        if self.shared:
            six = six + self.ada_gss
        gate_a, gate_m, scale_a, scale_m, shift_a, shift_m = six.unbind(2)
        x = x + gate_a * self.attn(modulated(x, scale_a, shift_a))
        x = x + gate_m * self.ffn(modulated(x, scale_m, shift_m))
        return x


class HeadNorm(nn.Module):
    """The last norm, modulated by the class."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = Projection(width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.ada_lin(condition).unsqueeze(1).chunk(2, dim=-1)
        return modulated(x, scale, shift)


class VAR(TokenPredictor):
    """VAR; starts with the weights that the official training starts from.

    Codes of an image are one row, scale after scale, each row after row; `inputs` are what
    `VARVQ.quantize.inputs` makes of them. Everything takes the whole of both, or those of the
    first scales alone.
    """

    lvl_1L: Tensor
    attn_bias_for_masking: Tensor

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.width, config.tokens
        self.word_embed = nn.Linear(config.code_width, width)
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.pos_start = nn.Parameter(torch.empty(1, 1, width))
        self.pos_1LC = nn.Parameter(torch.empty(1, tokens, width))
        self.lvl_embed = nn.Embedding(len(config.sides), width)
        if config.shared_modulation:
            self.shared_ada_lin = Projection(width, 6)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, config.vocabulary)
        # Functions of the sides: they stand in every checkpoint, and are never read.
        counts = torch.tensor([side**2 for side in config.sides])
        levels = torch.arange(len(counts)).repeat_interleave(counts, output_size=tokens)
        self.register_buffer("lvl_1L", levels.unsqueeze(0))
        hidden = levels.unsqueeze(1) < levels
        self.register_buffer(
            "attn_bias_for_masking",
            torch.zeros(1, 1, tokens, tokens).masked_fill(hidden, -math.inf),
        )
        self._start()

    def scoring_blocks(self) -> Iterable[nn.Module]:
        return self.blocks

    def head_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits

    def forward(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """Logits of every token: the training path.

        inputs: [b, tokens - 1, code_width]; classes: [b] long -> [b, tokens, vocabulary].
        """
        return self.head_logits(self._features(inputs, classes))

    @torch.no_grad()
    def token_log_probs(self, codes: Tensor, inputs: Tensor, classes: Tensor) -> Tensor:
        """log p(token | smaller scales, class) of one image, for many classes.

        codes: [m] long; inputs: [m - 1, code_width]; m = tokens of the first scales that are
        scored; classes: [c] long -> [c, m] float32.
        """
        return self._scored(codes.unsqueeze(0), inputs.unsqueeze(0), classes)

    @torch.no_grad()
    def token_log_probs_batch(self, codes: Tensor, inputs: Tensor, classes: Tensor) -> Tensor:
        """The same where every sequence has its own image and class.

        codes: [b, m] long; inputs: [b, m - 1, code_width]; classes: [b] long -> [b, m] float32.
        """
        if not len(codes) == len(inputs) == len(classes):
            raise ValueError(
                f"as many images as classes are needed, got {len(codes)} images, {len(inputs)} "
                f"images' inputs, {len(classes)} classes"
            )
        return self._scored(codes, inputs, classes)

    def _scored(self, codes: Tensor, inputs: Tensor, classes: Tensor) -> Tensor:
        if codes.shape[1] != inputs.shape[1] + 1:
            raise ValueError(
                f"{codes.shape[1]} codes go with one input fewer, got {inputs.shape[1]}"
            )
        features = self._features(inputs, classes)
        return self._log_probs(features, codes, self.config.vocabulary)

    def _features(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """What the head reads.

        inputs: [s, m - 1, code_width], s being b or 1 (shared by all classes, and then embedded
        once); classes: [b] long -> [b, m, width].
        """
        config = self.config
        tokens = inputs.shape[1] + 1
        if tokens not in config.ends:
            raise ValueError(
                f"{tokens} tokens end in the midst of a scale; the scales end at "
                f"{', '.join(map(str, config.ends))}"
            )
        levels = torch.cat(
            [
                row.expand(side**2, -1)
                for row, side in zip(self.lvl_embed.weight, config.sides, strict=True)
            ]
        )
        places = self.pos_1LC[:, :tokens] + levels[:tokens]
        embedded_classes = self.class_emb(classes)
        first = embedded_classes.unsqueeze(1) + self.pos_start + places[:, :1]
        others = self.word_embed(inputs.type_as(places)) + places[:, 1:]  # [s, m - 1, width]
        x = torch.cat([first, others.expand(len(classes), -1, -1)], dim=1)
        condition = embedded_classes
        if config.shared_modulation:
            condition = self.shared_ada_lin(condition)
        for block in self.blocks:
            x = block(x, condition)
        features: Tensor = self.head_nm(x, embedded_classes)
        return features

    @torch.no_grad()
    def _start(self) -> None:
        """As VAR.init_weights of the official code does, with its training's options."""
        deviation = math.sqrt(1 / self.config.width / 3)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, std=deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for table in (self.pos_start, self.pos_1LC):
            nn.init.trunc_normal_(table, std=deviation)
        self.head.weight.mul_(0.02)
        self.head_nm.ada_lin.weight.mul_(0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.start(self.config.layers)
