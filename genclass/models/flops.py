"""How much work a forward pass is, without torch: planning a run needs the numbers, too.

Floating-point operations, two per multiply-accumulate, of matrix products, convolutions and
attention, for one sequence (an image under one class). Causal attention is counted as what is
necessary, half a square of queries times keys; `square_attention` counts the whole square, as
`torch.utils.flop_counter` does. `heads` changes nothing: it stands in the signatures so that
`randar_flops(**sizes.RANDAR["L"], vocabulary=16384, tokens=256)` reads as it should.
"""


def randar_flops(
    layers: int,
    heads: int,
    width: int,
    vocabulary: int,
    tokens: int,
    *,
    square_attention: bool = False,
) -> int:
    """RandAR as genclass scores with it: 2n positions, the last layer's outputs and head at n.

    The last layer's n queries each stand twice (see `randar.Attention`), so that its attention
    runs over a square of 2n queries, of which the n are necessary.
    """
    positions = 2 * tokens
    square = _attention(positions, positions, width)
    everywhere = positions * _randar_layer(width)
    queries_and_after = tokens * (_randar_layer(width) - _linear(width, 2 * width))
    last = positions * _linear(width, 2 * width) + queries_and_after
    if square_attention:
        attention = layers * square
    else:
        attention = (layers - 1) * square // 2 + _attention(tokens, positions, width) // 2
    head = tokens * _linear(width, vocabulary)
    return (layers - 1) * everywhere + last + attention + head


def randar_plain_flops(
    layers: int,
    heads: int,
    width: int,
    vocabulary: int,
    tokens: int,
    *,
    square_attention: bool = False,
) -> int:
    """RandAR as the official code runs it: 2n + 1 positions, everything at all of them."""
    positions = 2 * tokens + 1
    attention = _attention(positions, positions, width) // (1 if square_attention else 2)
    head = positions * _linear(width, vocabulary)
    return layers * (positions * _randar_layer(width) + attention) + head


def dit_flops(
    layers: int, heads: int, width: int, patch: int, latent_size: int, channels: int
) -> int:
    """DiT or SiT as genclass scores with it: the first `channels` output channels only."""
    tokens = (latent_size // patch) ** 2
    pixels = patch**2 * channels  # in a patch
    embedding = tokens * _linear(pixels, width)
    conditioning = _linear(256, width) + _linear(width, width)
    block = (
        _linear(width, 6 * width)  # shifts, scales and gates, once for all tokens
        + tokens * (_linear(width, 4 * width) + 2 * _linear(width, 4 * width))
        + _attention(tokens, tokens, width)
    )
    final = _linear(width, 2 * width) + tokens * _linear(width, pixels)
    return embedding + conditioning + layers * block + final


def _randar_layer(width: int) -> int:
    """Of one position: queries, keys, values, output projection, and the feed-forward's three."""
    hidden = -(-(8 * width // 3) // 256) * 256
    return _linear(width, 4 * width) + 3 * _linear(width, hidden)


def _linear(inputs: int, outputs: int) -> int:
    return 2 * inputs * outputs


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted values of all heads together."""
    return 4 * queries * keys * width
