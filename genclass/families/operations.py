"""Floating-point operations of the parts that networks are made of, two per multiply-accumulate.

A test compares the cards' sums of them with what torch counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def linear(inputs: int, outputs: int) -> int:
    """Of one position."""
    return 2 * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted values of all heads together, every query to every key."""
    return 4 * queries * keys * width


def convolution(inputs: int, outputs: int, kernel: int, side: int) -> int:
    """To an output of `side` x `side` pixels."""
    return 2 * inputs * outputs * kernel**2 * side**2


@dataclass(frozen=True)
class ResidualEncoder:
    """The convolutional encoder of VQGAN and its kin: levels of residual blocks, then a middle.

    widths: channels of each level; blocks: residual blocks of a level; latent: channels that come
    out; halving: between levels by convolution; attention_in_last: after each block of the last
    level; middle_attention: once among the middle's blocks; shortcut_of_output: where a block
    widens, from its output; last_kernel: of the last convolution.
    """

    widths: Sequence[int]
    blocks: int
    latent: int
    halving: bool = True
    attention_in_last: bool = False
    middle_blocks: int = 2
    middle_attention: bool = True
    shortcut_of_output: bool = False
    last_kernel: int = 3

    def operations(self, side: int) -> int:
        """Of an image of `side` x `side` pixels."""
        width, total = self.widths[0], convolution(3, self.widths[0], 3, side)
        for level, channels in enumerate(self.widths):
            last = level == len(self.widths) - 1
            for _ in range(self.blocks):
                total += self._block(width, channels, side)
                width = channels
                total += _attend(width, side) if last and self.attention_in_last else 0
            if not last:
                side //= 2
                total += convolution(width, width, 3, side) if self.halving else 0
        total += self.middle_blocks * self._block(width, width, side)
        total += _attend(width, side) if self.middle_attention else 0
        return total + convolution(width, self.latent, self.last_kernel, side)

    def _block(self, inputs: int, outputs: int, side: int) -> int:
        twice = convolution(inputs, outputs, 3, side) + convolution(outputs, outputs, 3, side)
        if inputs == outputs:
            return twice
        shortcut = outputs if self.shortcut_of_output else inputs
        return twice + convolution(shortcut, outputs, 1, side)


def _attend(width: int, side: int) -> int:
    positions = side**2
    return positions * linear(width, 4 * width) + attention(positions, positions, width)
