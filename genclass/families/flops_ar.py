"""How much work the raster and next-scale networks are, without torch; counted as in `flops`.

`heads` changes nothing: it stands in the signatures so that
`llamagen_flops(**sizes.LLAMAGEN["L"], vocabulary=16384, tokens=256)` reads as it should.
"""

from collections.abc import Sequence
from itertools import accumulate

from genclass.families.operations import attention as attention_flops
from genclass.families.operations import linear as linear_flops
from genclass.families.randar import llama_layer as llama_layer_flops


def llamagen_flops(
    layers: int,
    heads: int,
    width: int,
    vocabulary: int,
    tokens: int,
    *,
    square_attention: bool = False,
) -> int:
    """LlamaGen: as many positions as tokens, the class's with them, and all are predictions."""
    mixing = attention_flops(tokens, tokens, width) // (1 if square_attention else 2)
    head = tokens * linear_flops(width, vocabulary)
    return layers * (tokens * llama_layer_flops(width) + mixing) + head


def var_flops(
    layers: int,
    heads: int,
    width: int,
    vocabulary: int,
    code_width: int,
    sides: Sequence[int],
    *,
    shared_modulation: bool = False,
    square_attention: bool = False,
) -> int:
    """VAR on the token maps of these sides: all, or the first ones alone.

    Attention is causal by scale: a map's queries see its own keys and those of the smaller maps.
    square_attention: all queries times all keys, as under a mask (the official code).
    """
    counts = [side**2 for side in sides]
    tokens = sum(counts)
    if square_attention:
        mixing = attention_flops(tokens, tokens, width)
    else:
        mixing = sum(
            attention_flops(queries, keys, width)
            for queries, keys in zip(counts, accumulate(counts), strict=True)
        )
    modulation = (1 if shared_modulation else layers) * linear_flops(width, 6 * width)
    return (
        (tokens - 1) * linear_flops(code_width, width)
        + modulation
        + layers * (tokens * 3 * linear_flops(width, 4 * width) + mixing)
        + linear_flops(width, 2 * width)
        + tokens * linear_flops(width, vocabulary)
    )


def encoder_flops(
    size: int, channels: int, multipliers: Sequence[int], residual_blocks: int, latent: int
) -> int:
    """The convolutional encoder of VAR's, LlamaGen's and Taming's tokenizers, for one image.

    size: the image's side; multipliers: of the channels, one per resolution; latent: channels
    that come out, before `quant_conv`.
    """
    pixels, inputs = size**2, channels
    total = pixels * _convolution(3, channels)
    deepest = len(multipliers) - 1
    for level, multiplier in enumerate(multipliers):
        outputs = channels * multiplier
        shortcut = pixels * linear_flops(inputs, outputs) if inputs != outputs else 0
        total += pixels * (_convolution(inputs, outputs) + _convolution(outputs, outputs))
        total += shortcut + (residual_blocks - 1) * pixels * 2 * _convolution(outputs, outputs)
        if level < deepest:
            pixels //= 4
            total += pixels * _convolution(outputs, outputs)
        inputs = outputs
    mixing = pixels * linear_flops(inputs, 4 * inputs) + attention_flops(pixels, pixels, inputs)
    total += (residual_blocks + 1) * mixing  # in the deepest level and in the middle
    total += pixels * 4 * _convolution(inputs, inputs)  # the middle's two residual blocks
    return total + pixels * _convolution(inputs, latent)


def var_vq_flops(
    channels: int,
    multipliers: Sequence[int],
    residual_blocks: int,
    codebook: int,
    code_width: int,
    sides: Sequence[int],
    scales: int | None = None,
) -> int:
    """VAR's tokenizer: one image to the codes and inputs of its first scales (None: all)."""
    size = sides[-1] * 2 ** (len(multipliers) - 1)
    used = sides[:scales]
    places = sides[-1] ** 2
    nearest = sum(side**2 for side in used) * linear_flops(code_width, codebook)
    # quant_conv, then one convolution a scale to subtract its codes, and one to add them again
    # (the last scale's enter nothing).
    small = (1 + len(used) + len(used) - 1) * places * _convolution(code_width, code_width)
    return encoder_flops(size, channels, multipliers, residual_blocks, code_width) + nearest + small


def _convolution(inputs: int, outputs: int) -> int:
    """3 x 3, of one place."""
    return 9 * linear_flops(inputs, outputs)
