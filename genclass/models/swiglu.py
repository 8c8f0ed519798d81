"""SwiGLU as one kernel on Hopper GPUs: the gate is applied where both products are accumulated.

Importing this module adds `torch.ops.genclass.swiglu`; it needs Triton, which comes with torch's
builds for CUDA. Elsewhere the products are written to memory and read again; on an H100 that takes
a third of their own time (docs/performance.md).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROWS, COLUMNS, DEPTH = 128, 128, 64  # of a tile: of x, of the result, of what is summed
_NEIGHBOURS = 8  # tiles below each other that follow in time, and share a column of weights


@triton.jit
def _tiles(  # type: ignore[no-untyped-def]
    x, weight, result, rows, columns, depth, programs,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """Each of the programs, one a multiprocessor, takes every so many-th tile of the result."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    for tile in tl.range(tl.program_id(0), down * across, programs):
        first = tile // (NEIGHBOURS * across) * NEIGHBOURS
        height = min(down - first, NEIGHBOURS)
        place = tile % (NEIGHBOURS * across)
        row, column = first + place % height, place // height
        both = tl.zeros((ROWS, 2 * COLUMNS), dtype=tl.float32)
        for step in range(tl.cdiv(depth, DEPTH)):
            left = x.load([row * ROWS, step * DEPTH])
            right = weight.load([column * 2 * COLUMNS, step * DEPTH])
            both = tl.dot(left, right.T, both)
        gate, value = tl.split(tl.permute(tl.reshape(both, (ROWS, 2, COLUMNS)), (0, 2, 1)))
        product = gate * tl.sigmoid(gate) * value
        result.store([row * ROWS, column * COLUMNS], product.to(tl.bfloat16))


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
    programs = torch.cuda.get_device_properties(x.device).multi_processor_count
    _tiles[(programs,)](
        TensorDescriptor.from_tensor(flat, [ROWS, DEPTH]),
        TensorDescriptor.from_tensor(weight, [2 * COLUMNS, DEPTH]),
        TensorDescriptor.from_tensor(result, [ROWS, COLUMNS]),
        len(flat), hidden, width, programs, ROWS, COLUMNS, DEPTH, _NEIGHBOURS,
        num_stages=3, num_warps=8,
    )  # fmt: skip
    return result.unflatten(0, x.shape[:-1])


@torch.library.register_fake("genclass::swiglu")
def _(x: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(gate))
