"""How much work RAR, MaskGIT, MeanFlow and RandAR with hidden tokens are, without torch.

For one sequence, as genclass scores with it. square_attention counts what masks leave out, too,
as torch's counter does; `heads` changes nothing, but lets a size be given as it stands.
"""

from genclass.families.dit import SINUSOIDS
from genclass.families.operations import attention, linear
from genclass.families.randar import llama_layer

RAR_SIZES: dict[str, dict[str, int]] = {
    "B": {"layers": 24, "heads": 16, "width": 768, "hidden": 3072},
    "L": {"layers": 24, "heads": 16, "width": 1024, "hidden": 4096},
    "XL": {"layers": 32, "heads": 16, "width": 1280, "hidden": 5120},
    "XXL": {"layers": 40, "heads": 16, "width": 1408, "hidden": 6144},
}

# Released in one size, which its authors give no letter.
MASKGIT_SIZES: dict[str, dict[str, int]] = {
    "B": {"layers": 24, "heads": 16, "width": 768, "hidden": 3072},
}


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
        linear(width, 6 * width) + linear(width, 4 * width) + 2 * linear(width, hidden)
    )
    mixing = attention(positions, positions, width) // (1 if square_attention else 2)
    head = tokens * (linear(width, 2 * width) + linear(width, vocabulary))
    return layers * (layer + mixing) + head


def maskgit_flops(
    layers: int, heads: int, width: int, hidden: int, vocabulary: int, tokens: int
) -> int:
    """MaskGIT: n tokens and the class, which all see all; the head, mask column and all, at n."""
    positions = tokens + 1
    first = positions * linear(width, 2 * width)
    layer = positions * (linear(width, 4 * width) + 2 * linear(width, hidden))
    last = tokens * (linear(width, width) + linear(width, vocabulary + 1))
    return first + layers * (layer + attention(positions, positions, width)) + last


def second_time_flops(width: int) -> int:
    """What MeanFlow is more than a SiT of its size: the embedding of a second time."""
    return linear(SINUSOIDS, width) + linear(width, width)


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
    everywhere = positions * llama_layer(width)
    last = positions * linear(width, 2 * width) + hidden * (
        llama_layer(width) - linear(width, 2 * width)
    )
    if square_attention:
        within, across = (
            attention(prefix, prefix, width),
            attention(hidden, positions, width),
        )
    else:
        within, across = (
            attention(prefix, prefix, width) // 2,
            attention(hidden, prefix + 1, width),
        )
    mixing = layers * across + (layers - 1) * within
    return (layers - 1) * everywhere + last + mixing + hidden * linear(width, vocabulary)
