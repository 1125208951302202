"""DropBlock's mask: a dilation of the places where blocks start, in time that depends on neither p nor block size.

As no block leaves its plane, planes can be treated as one row of memory, in which the `and` of a mask with itself,
shifted, doubles the length of each run of zeros: first along lines, then along columns, then along the depth.
"""

from typing import Any, Final

import numpy as np
from numba import carray

from fastdrop_kernels.cpu.compiler import compiled_entry, inlined
from fastdrop_kernels.cpu.intrinsics import pointer

u64 = np.uint64
CHUNK: Final = u64(16384)  # bytes that stay in the L1 cache together with their copy


@inlined
def dilate_along(mask: Any, copy: Any, stride: Any, block: Any) -> None:
    """Dilate each zero of the mask to `block` zeros, a stride apart; `copy` is a workspace of the same size."""
    run = u64(1)
    while run < block:
        step = min(run, block - run)
        for i in range(u64(mask.size)):
            copy[i] = mask[i]
        for i in range(step * stride, u64(mask.size)):
            mask[i] &= copy[i - step * stride]
        run += step


@inlined
def place(mask: Any, starts: Any, layers: Any, rows: Any, columns: Any, depth: Any, height: Any, width: Any) -> None:
    """Write the starts of a chunk of planes to the corners where their blocks begin, and 1 elsewhere."""
    for i in range(u64(mask.size)):
        mask[i] = np.uint8(1)
    source, plane = u64(0), u64(0)
    while plane < u64(mask.size):
        for layer in range(layers):
            for row in range(rows):
                line = plane + (layer * height + row) * width
                for j in range(columns):
                    mask[line + j] = starts[source + j]
                source += columns
        plane += depth * height * width


@compiled_entry
def dilate_blocks(
    starts: int,
    keep: int,
    workspace: int,
    planes: int,
    depth: int,
    height: int,
    width: int,
    block_depth: int,
    block: int,
) -> int:
    """Write a mask of `planes` planes, 0 in the blocks that start at a 0 of `starts` and else 1; return how many are 1.

    starts, keep, workspace: addresses of bytes. Planes are (depth, height, width) large, and starts has a byte for as
    many places of each as hold a whole block, (block_depth, block, block) large.
    workspace: `workspace_bytes(plane)` bytes.
    """
    deep, high, wide, thick, side = u64(depth), u64(height), u64(width), u64(block_depth), u64(block)
    layers, rows, columns = deep - thick + u64(1), high - side + u64(1), wide - side + u64(1)
    plane, places = deep * high * wide, layers * rows * columns
    at_once = max(u64(1), CHUNK // plane)
    kept, first = u64(0), u64(0)
    while first < u64(planes):
        n = min(at_once, u64(planes) - first)
        mask = carray(pointer(u64(keep) + first * plane, np.uint8), (n * plane,))
        found = carray(pointer(u64(starts) + first * places, np.uint8), (n * places,))
        copy = carray(pointer(u64(workspace), np.uint8), (n * plane,))
        place(mask, found, layers, rows, columns, deep, high, wide)
        dilate_along(mask, copy, u64(1), side)
        dilate_along(mask, copy, wide, side)
        dilate_along(mask, copy, high * wide, thick)
        for i in range(n * plane):
            kept += u64(mask[i])
        first += n
    return int(kept)


def workspace_bytes(plane: int) -> int:
    """Return how many bytes `dilate_blocks` needs for a copy of what it works on, with planes of this size."""
    return max(plane, int(CHUNK))
