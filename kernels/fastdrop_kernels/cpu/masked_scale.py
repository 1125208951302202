"""The loops for a mask in memory, one byte for each element or each row: y = x * scale where kept, else +0.

Of a kernel's arguments, SECOND is the address of the mask's bytes, PARAMETER the scale, INNER the length of a row. A
dropped row is not read.
"""

from typing import Any

import numpy as np
from numba import carray

from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.dtypes import DTypeTraits
from fastdrop_kernels.cpu.elementwise import BLOCK
from fastdrop_kernels.cpu.intrinsics import load, pointer, store
from fastdrop_kernels.cpu.segments import clip, drop
from fastdrop_kernels.cpu.stores import use_nontemporal, write
from fastdrop_kernels.launch import COUNT, INNER, PARAMETER, SECOND, START, X, Y

u64 = np.uint64


@inlined
def select(x: Any, y: Any, n: Any, first: Any, arguments: Any) -> None:
    """Write x * scale to y where the mask keeps an element, else +0."""
    mask, scale, zero, widen, narrow = arguments
    keep = pointer(mask + first, np.uint8)
    for i in range(n):
        kept = narrow(widen(load(x, i)) * scale)
        store(y, i, kept if load(keep, i) else zero)


@inlined
def rescale(x: Any, y: Any, n: Any, first: Any, arguments: Any) -> None:
    """Write x * scale to y."""
    scale, widen, narrow = arguments
    for i in range(n):
        store(y, i, narrow(widen(load(x, i)) * scale))


def kernel(dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel whose mask has a byte for each element."""
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)

    def masked_scale(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, scale = arguments[START], arguments[COUNT], compute(float64_from_bits(arguments[PARAMETER]))
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        x, y = arguments[X] + (first - start) * itemsize, arguments[Y] + (first - start) * itemsize
        nontemporal = use_nontemporal(x, y, count * itemsize, u64(0))
        these = arguments[SECOND] + first, scale, narrow(compute(0)), widen, narrow
        write(select, storage, itemsize, x, y, end - first, nontemporal, these)

    return compile_callback(KERNEL, masked_scale, f"masked_scale_{dtype}")


def rows_kernel(dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel whose mask has a byte for each row."""
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)

    def masked_scale_rows(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, length = arguments[START], arguments[COUNT], arguments[INNER]
        scale, zero = compute(float64_from_bits(arguments[PARAMETER])), narrow(compute(0))
        x_address, y_address = arguments[X] - start * itemsize, arguments[Y] - start * itemsize  # of element 0
        nontemporal = use_nontemporal(x_address, y_address, count * itemsize, length * itemsize)
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        last_row = (end + length - u64(1)) // length
        keep = carray(pointer(arguments[SECOND], np.uint8), (last_row,))
        for row in range(first // length, last_row):
            here, n = clip(row, length, first, end)
            x, y = x_address + here * itemsize, y_address + here * itemsize
            if keep[row]:
                write(rescale, storage, itemsize, x, y, n, nontemporal, (scale, widen, narrow))
            else:
                write(drop, storage, itemsize, x, y, n, nontemporal, zero)

    return compile_callback(KERNEL, masked_scale_rows, f"masked_scale_rows_{dtype}")
