"""How much work a forward pass of the later families is: see `flops`, whose rules hold here.

For one sequence, as genclass scores with it. Without torch, too.
"""

from genclass.models.flops import _attention, _linear, _randar_layer, dit_flops


def rar_flops(
    layers: int,
    heads: int,
    width: int,
    hidden: int,
    vocabulary: int,
    tokens: int,
    *,
    square_attention: bool = False,
) -> int:
    """RAR: n + 1 positions, each with its own shifts, scales and gates; the head at n."""
    positions = tokens + 1
    layer = positions * (
        _linear(width, 6 * width) + _linear(width, 4 * width) + 2 * _linear(width, hidden)
    )
    attention = _attention(positions, positions, width) // (1 if square_attention else 2)
    head = tokens * (_linear(width, 2 * width) + _linear(width, vocabulary))
    return layers * (layer + attention) + head


def maskgit_flops(
    layers: int, heads: int, width: int, hidden: int, vocabulary: int, tokens: int
) -> int:
    """MaskGIT: n tokens and the class, which all see all; the head, mask column and all, at n."""
    positions = tokens + 1
    first = positions * _linear(width, 2 * width)
    layer = positions * (_linear(width, 4 * width) + 2 * _linear(width, hidden))
    last = tokens * (_linear(width, width) + _linear(width, vocabulary + 1))
    return first + layers * (layer + _attention(positions, positions, width)) + last


def meanflow_flops(
    layers: int, heads: int, width: int, patch: int, latent_size: int, channels: int
) -> int:
    """MeanFlow: a DiT with a second embedding of time."""
    dit = dit_flops(layers, heads, width, patch, latent_size, channels)
    return dit + _linear(256, width) + _linear(width, width)


def randar_hidden_flops(
    layers: int,
    heads: int,
    width: int,
    vocabulary: int,
    tokens: int,
    visible: int,
    *,
    square_attention: bool = False,
) -> int:
    """RandAR with some tokens visible: 1 + 2 visible + hidden positions, the head at the hidden.

    The last layer's outputs are at the hidden places only. `square_attention` counts what the
    attention's masks leave out, too.
    """
    prefix, hidden = 1 + 2 * visible, tokens - visible
    positions = prefix + hidden
    everywhere = positions * _randar_layer(width)
    last = positions * _linear(width, 2 * width) + hidden * (
        _randar_layer(width) - _linear(width, 2 * width)
    )
    if square_attention:
        within, across = _attention(prefix, prefix, width), _attention(hidden, positions, width)
    else:
        within, across = (
            _attention(prefix, prefix, width) // 2,
            _attention(hidden, prefix + 1, width),
        )
    attention = layers * across + (layers - 1) * within
    return (layers - 1) * everywhere + last + attention + hidden * _linear(width, vocabulary)
