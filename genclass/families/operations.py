"""Floating-point operations of the parts that networks are made of, two per multiply-accumulate.

A test compares the cards' sums of them with what torch counts.
"""

from __future__ import annotations

from collections.abc import Sequence


def linear(inputs: int, outputs: int) -> int:
    """Of one position."""
    return 2 * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted values of all heads together, every query to every key."""
    return 4 * queries * keys * width


def convolution(inputs: int, outputs: int, kernel: int, side: int) -> int:
    """To an output of `side` x `side` pixels."""
    return 2 * inputs * outputs * kernel**2 * side**2


def residual_encoder(
    widths: Sequence[int],
    blocks: int,
    latent: int,
    side: int,
    *,
    halving: bool = True,
    attention_in_last: bool = False,
    middle_blocks: int = 2,
    middle_attention: bool = True,
    shortcut_of_output: bool = False,
    last_kernel: int = 3,
) -> int:
    """The convolutional encoder of VQGAN and its kin: levels of residual blocks, then a middle.

    widths: channels of each level; blocks: residual blocks of a level; latent: channels that come
    out; side: of the image, in pixels; halving: between levels by convolution; attention_in_last:
    after each block of the last level; middle_attention: once among the middle's blocks;
    shortcut_of_output: where a block widens, from its output; last_kernel: of the last convolution.
    """
    width, total = widths[0], convolution(3, widths[0], 3, side)

    def block(inputs: int, outputs: int) -> int:
        twice = convolution(inputs, outputs, 3, side) + convolution(outputs, outputs, 3, side)
        if inputs == outputs:
            return twice
        return twice + convolution(outputs if shortcut_of_output else inputs, outputs, 1, side)

    def attend() -> int:
        positions = side**2
        return positions * linear(width, 4 * width) + attention(positions, positions, width)

    for level, channels in enumerate(widths):
        last = level == len(widths) - 1
        for _ in range(blocks):
            total += block(width, channels)
            width = channels
            total += attend() if last and attention_in_last else 0
        if not last:
            side //= 2
            total += convolution(width, width, 3, side) if halving else 0
    total += middle_blocks * block(width, width) + (attend() if middle_attention else 0)
    return total + convolution(width, latent, last_kernel, side)
