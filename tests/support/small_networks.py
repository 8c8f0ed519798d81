"""What the tests of the networks share."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def awakened(network: nn.Module) -> Any:
    """With no weight left at the zero or one that training starts from."""
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape)
            parameter.add_(noise * (0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5))
    return network.eval()


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts attention, too: torch does not where the CPU's fused kernel runs it."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


@contextmanager
def counting_necessary() -> Iterator[Callable[[], int]]:
    """What torch counts; of attention, which a CPU's kernels hide from it, what is necessary.

    Causal attention is half a square, masked attention what the mask (bool [queries, keys]) lets
    through. Its result is zero while it is counted.
    """
    attending = 0

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        **more: Any,
    ) -> Tensor:
        nonlocal attending
        square = q.shape[-2] * k.shape[-2] if attn_mask is None else int(attn_mask.sum())
        pairs = math.prod(q.shape[:-2]) * square // (2 if is_causal else 1)
        attending += 2 * pairs * (q.shape[-1] + v.shape[-1])
        return q.new_zeros(*q.shape[:-1], v.shape[-1])

    counter = FlopCounterMode(display=False)
    with patch.object(F, "scaled_dot_product_attention", attention), counter:
        yield lambda: counter.get_total_flops() + attending
