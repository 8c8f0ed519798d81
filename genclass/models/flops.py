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

    The last layer's n queries each stand twice (see `llama.Attention`), so that its attention
    runs over a square of 2n queries, of which the n are necessary.
    """
    positions = 2 * tokens
    square = attention_flops(positions, positions, width)
    everywhere = positions * llama_layer_flops(width)
    queries_and_after = tokens * (llama_layer_flops(width) - linear_flops(width, 2 * width))
    last = positions * linear_flops(width, 2 * width) + queries_and_after
    if square_attention:
        attention = layers * square
    else:
        attention = (layers - 1) * square // 2 + attention_flops(tokens, positions, width) // 2
    head = tokens * linear_flops(width, vocabulary)
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
    attention = attention_flops(positions, positions, width) // (1 if square_attention else 2)
    head = positions * linear_flops(width, vocabulary)
    return layers * (positions * llama_layer_flops(width) + attention) + head


def dit_flops(
    layers: int, heads: int, width: int, patch: int, latent_size: int, channels: int
) -> int:
    """DiT or SiT as genclass scores with it: the first `channels` output channels only."""
    tokens = (latent_size // patch) ** 2
    pixels = patch**2 * channels  # in a patch
    embedding = tokens * linear_flops(pixels, width)
    conditioning = linear_flops(256, width) + linear_flops(width, width)
    block = (
        linear_flops(width, 6 * width)  # shifts, scales and gates, once for all tokens
        + tokens * (linear_flops(width, 4 * width) + 2 * linear_flops(width, 4 * width))
        + attention_flops(tokens, tokens, width)
    )
    final = linear_flops(width, 2 * width) + tokens * linear_flops(width, pixels)
    return embedding + conditioning + layers * block + final


def llama_layer_flops(width: int) -> int:
    """Of one position: queries, keys, values, output projection, and the feed-forward's three."""
    hidden = -(-(8 * width // 3) // 256) * 256
    return linear_flops(width, 4 * width) + 3 * linear_flops(width, hidden)


def linear_flops(inputs: int, outputs: int) -> int:
    return 2 * inputs * outputs


def attention_flops(queries: int, keys: int, width: int) -> int:
    """Scores and weighted values of all heads together."""
    return 4 * queries * keys * width
