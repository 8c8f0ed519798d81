"""Muon: momentum, orthogonalised, for the weight matrices of a network's blocks.

Of "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon), with updates of AdamW's size, as in "Muon is Scalable
for LLM Training" (https://arxiv.org/abs/2502.16982), so that both share a learning rate.
`torch.optim.Muon` is the same in bfloat16, whose products take a CPU that lacks instructions for
them ten times as long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic iteration, as the author chose them
_ITERATIONS = 5
_ADAMW_SIZE = 0.2  # root mean square of AdamW's updates


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose singular values are brought to about one.

    matrices: float32, of two axes or more, all but the first of which count as one (a
    convolution's); or torch's parameter groups of such.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike = defaultdict(list)  # matrices of a shape are orthogonalised together
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                update = orthogonal(torch.stack([self._direction(m, group) for m in matrices]))
                rows, columns = update.shape[1:]
                size = group["lr"] * _ADAMW_SIZE * max(rows, columns) ** 0.5
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, [u.view(shape) for u in update], alpha=-size)

    def _direction(self, matrix: nn.Parameter, group: dict[str, float]) -> Tensor:
        """[rows, columns]: the gradient, looking ahead along its mean."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["mean"] = torch.zeros_like(matrix)
        mean: Tensor = state["mean"]
        mean.lerp_(matrix.grad, 1 - group["momentum"])
        return matrix.grad.lerp(mean, group["momentum"]).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """U V^T of each matrix U S V^T, nearly: singular values of 0.7 to 1.2 by Newton and Schulz.

    float32 [b, rows, columns] -> the same.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if wide is not matrices else x
