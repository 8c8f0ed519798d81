"""The output head over image codes: log p of the true code, in float32, in bounded memory."""

import torch
from torch import Tensor

# Logits held at once, whatever the number of sequences: 128 MiB in float32.
LOGITS_AT_ONCE = 2**25


def wide_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., width] times weight [columns, width], transposed: float32 [..., columns].

    Never rounded to the network's bfloat16, whose steps are 1/16 for logits between 8 and 16.
    """
    if x.is_cuda and x.dtype != torch.float32:
        wide = torch.mm(x.flatten(0, -2), weight.T, out_dtype=torch.float32)
        return wide.unflatten(0, x.shape[:-1])
    return x.float() @ weight.float().T


def target_log_probs(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Log-softmax at the targets; the softmax is never written out, only its norm.

    features: [b, m, width]; weight: [columns, width]; bias: [columns] or [m, columns];
    targets: [b, m] long -> [b, m] float32.
    """
    logits = wide_product(features, weight) + bias.float()
    chosen = logits.gather(2, targets.unsqueeze(2)).squeeze(2)
    return chosen - logits.logsumexp(dim=2)


def sequences_at_once(places: int, columns: int) -> int:
    """How many sequences' logits may be held at once."""
    return max(1, LOGITS_AT_ONCE // (places * columns))
