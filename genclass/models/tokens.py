"""log p of given tokens: what all networks that predict tokens have in common."""

from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor

# Logits that the scoring path holds at once, whatever the number of sequences: 128 MiB in float32.
LOGITS_AT_ONCE = 2**25


def wide_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., width] times weight [columns, width], transposed: float32 [..., columns].

    Never rounded to the network's bfloat16, whose steps are 1/16 for logits between 8 and 16.
    """
    if x.is_cuda and x.dtype != torch.float32:
        wide: Tensor = torch.mm(x.flatten(0, -2), weight.T, out_dtype=torch.float32)
        return wide.unflatten(0, x.shape[:-1])
    return x.float() @ weight.float().T


class TokenPredictor(nn.Module):
    """A transformer whose head reads the distribution of one token off each vector of features.

    A subclass says which modules its scoring runs through, and what its head is.
    """

    def scoring_blocks(self) -> Iterable[nn.Module]:
        """The blocks, all of one class."""
        raise NotImplementedError

    def head_logits(self, features: Tensor) -> Tensor:
        """[r, width] -> [r, vocabulary]."""
        raise NotImplementedError

    def compile_scoring(self) -> None:
        """Fuse what lies between the matrix products of the scoring path, by torch.compile.

        Each new shape of a batch is compiled for itself, in seconds: the blocks share their code,
        and compiled one by one they run no slower than as a whole.
        """
        # To its limit they are one function, in up to two forms for each shape (RandAR's last
        # block is another).
        torch._dynamo.config.recompile_limit = 64
        for block in self.scoring_blocks():
            block.compile(dynamic=False)
        self._target_log_probs = torch.compile(  # type: ignore[method-assign]
            self._target_log_probs, dynamic=False
        )

    def _log_probs(self, features: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
        """features [b, m, width], targets [b or 1, m] long -> [b, m] float32.

        No more than LOGITS_AT_ONCE logits exist at a time.
        """
        targets = targets.expand(len(features), -1)
        rows = max(1, LOGITS_AT_ONCE // vocabulary)
        chunks = zip(features.flatten(0, 1).split(rows), targets.flatten().split(rows), strict=True)
        return torch.cat([self._target_log_probs(*chunk) for chunk in chunks]).view_as(targets)

    def _target_log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """[r, width], [r] -> [r] float32; the softmax is never written out, only its norm."""
        logits = self.head_logits(features).float()
        chosen = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        return chosen - logits.logsumexp(dim=1)
