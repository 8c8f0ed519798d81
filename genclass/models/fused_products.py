"""Matrix products on Hopper GPUs whose results are finished where they are accumulated.

Importing this module adds `torch.ops.genclass.swiglu` and `torch.ops.genclass.rotated`; it needs
Triton, which comes with torch's builds for CUDA. Elsewhere the products are written to memory, read
again and written once more; on an H100 that takes a sixth to nearly a half of their own time
(docs/performance.md).

Both are one kernel: a tile sums two halves, of `COLUMNS` columns each, which only then make the
result. Of SwiGLU the halves are the gates and the values; of queries and keys, the even and the odd
numbers of four heads.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROWS, COLUMNS, DEPTH = 128, 128, 64  # of a tile: of x, of one half, of what is summed
HEAD = 64  # the one width of heads that `rotated` takes
HEADS = COLUMNS // (HEAD // 2)  # of a tile
_NEIGHBOURS = 8  # tiles below each other that follow in time, and share a column of weights


@triton.jit
def _tiles(  # type: ignore[no-untyped-def]
    x, weight, result, cos, sin, rows, across, depth, turned, positions, still, programs,
    ROTATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    HEADS: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """Each of the programs, one a multiprocessor, takes every so many-th tile of the result.

    across: tiles beside each other, of which the first `turned` are rotated; still: where the table
    has a turn by nothing.
    """
    HALF: tl.constexpr = COLUMNS // HEADS
    down = tl.cdiv(rows, ROWS)
    # Flattened, the next tile's numbers are on their way while a tile is finished.
    for tile in tl.range(tl.program_id(0), down * across, programs, flatten=True):
        first = tile // (NEIGHBOURS * across) * NEIGHBOURS
        height = min(down - first, NEIGHBOURS)
        place = tile % (NEIGHBOURS * across)
        row, column = first + place % height, place // height
        both = tl.zeros((ROWS, 2 * COLUMNS), dtype=tl.float32)
        for step in range(tl.cdiv(depth, DEPTH)):
            left = x.load([row * ROWS, step * DEPTH])
            right = weight.load([column * 2 * COLUMNS, step * DEPTH])
            both = tl.dot(left, right.T, both)
        one, two = tl.split(tl.permute(tl.reshape(both, (ROWS, 2, COLUMNS)), (0, 2, 1)))
        if ROTATE:
            line = tl.where(column < turned, (row * ROWS) % positions, still)
            where = (line + tl.arange(0, ROWS))[:, None] * HALF + tl.arange(0, HALF)[None, :]
            c, s = tl.load(cos + where)[:, None, :], tl.load(sin + where)[:, None, :]
            even, odd = tl.reshape(one, (ROWS, HEADS, HALF)), tl.reshape(two, (ROWS, HEADS, HALF))
            evens, odds = (even * c - odd * s).to(tl.bfloat16), (odd * c + even * s).to(tl.bfloat16)
            at = column * HEADS
            result.store([row * ROWS, at, 0, 0], tl.reshape(evens, (ROWS, HEADS, 1, HALF)))
            result.store([row * ROWS, at, 1, 0], tl.reshape(odds, (ROWS, HEADS, 1, HALF)))
        else:
            product = one * tl.sigmoid(one) * two
            result.store([row * ROWS, column * COLUMNS], product.to(tl.bfloat16))


def _run(
    x: Tensor, weight: Tensor, result: Tensor, box: list[int], table: tuple[Tensor, Tensor] | None,
    turned: int = 0, positions: int = 1,
) -> None:  # fmt: skip
    """x: [rows, width]; weight: [2 * COLUMNS * tiles, width]; box: of a result that is stored."""
    programs = torch.cuda.get_device_properties(x.device).multi_processor_count
    cos, sin = table or (weight, weight)  # not read
    _tiles[(programs,)](
        TensorDescriptor.from_tensor(x, [ROWS, DEPTH]),
        TensorDescriptor.from_tensor(weight, [2 * COLUMNS, DEPTH]),
        TensorDescriptor.from_tensor(result, box),
        cos, sin, len(x), len(weight) // (2 * COLUMNS), x.shape[1],
        turned, positions, positions + ROWS, programs,
        table is not None, ROWS, COLUMNS, DEPTH, HEADS, _NEIGHBOURS,
        num_stages=3, num_warps=8,
    )  # fmt: skip


torch.library.define("genclass::swiglu", "(Tensor x, Tensor gate, Tensor value) -> Tensor")


@torch.library.impl("genclass::swiglu", "CUDA")
def swiglu(x: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    """silu(x gate^T) * (x value^T), rounded once, at the end.

    x: bfloat16 [.., width]; gate, value: bfloat16 [hidden, width], hidden a multiple of `COLUMNS`,
    width of 8 -> bfloat16 [.., hidden].
    """
    hidden, width = gate.shape
    flat = x.reshape(-1, width)
    blocks = (hidden // COLUMNS, COLUMNS, width)  # of gate and value in turn: a tile reads both
    weight = torch.stack([gate.view(blocks), value.view(blocks)], dim=1).view(-1, width)
    result = torch.empty(len(flat), hidden, device=x.device, dtype=x.dtype)
    _run(flat, weight, result, [ROWS, COLUMNS], None)
    return result.unflatten(0, x.shape[:-1])


@torch.library.register_fake("genclass::swiglu")
def _(x: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(gate))


torch.library.define(
    "genclass::rotated", "(Tensor x, Tensor weight, Tensor cos, Tensor sin, int heads) -> Tensor"
)


@torch.library.impl("genclass::rotated", "CUDA")
def rotated(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """Queries, keys and values, the former two rotated, rounded once, at the end.

    In a head of queries and of keys the even numbers come first, then the odd ones: a permutation
    that is the same for both leaves their products as they are.

    x: bfloat16 [b, t, width], width = heads * `HEAD`, heads a multiple of `HEADS`;
    weight: bfloat16 [3 * width, width]; cos, sin: float32 [b or 1, t, 1, HEAD / 2]
    -> bfloat16 [b, t, 3 * heads, HEAD].
    """
    width = x.shape[-1]
    turned = 2 * heads // HEADS
    pairs, values = weight[: 2 * width], weight[2 * width :]
    weight = torch.cat(
        [
            pairs.view(turned, HEADS, HEAD // 2, 2, width).permute(0, 3, 1, 2, 4).flatten(0, 3),
            values.view(turned // 2, HEADS, 2, HEAD // 2, width).transpose(1, 2).flatten(0, 3),
        ]
    )
    flat = x.reshape(-1, width)
    # The table is read in runs of a tile's rows: it goes on from its start, and after that stands
    # the turn by nothing, for values.
    positions = cos.shape[:2].numel()
    places = torch.arange(positions + ROWS, device=x.device) % positions
    ones = torch.ones(ROWS, HEAD // 2, device=x.device)
    table = (
        torch.cat([cos.reshape(positions, -1)[places], ones]),
        torch.cat([sin.reshape(positions, -1)[places], torch.zeros_like(ones)]),
    )
    result = torch.empty(len(flat), 3 * heads, 2, HEAD // 2, device=x.device, dtype=x.dtype)
    _run(flat, weight, result, [ROWS, HEADS, 1, HEAD // 2], table, turned, positions)
    return result.view(*x.shape[:-1], 3 * heads, HEAD)


@torch.library.register_fake("genclass::rotated")
def _(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], 3 * heads, HEAD)
