"""What the tests of the networks share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
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
