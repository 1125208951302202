"""The loops for a mask that lies in memory, a byte an element or a row: y = x * scale where kept, else +0.

Of a kernel's arguments (see blocks.py), `seed` is the address of the mask's bytes here, `p` the scale, and `inner` the
length of a row. A row that is dropped is not read.
"""

from typing import Any

import numpy as np
from numba import carray

from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.blocks import BLOCK
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback
from fastdrop_kernels.cpu.elements import Element
from fastdrop_kernels.cpu.intrinsics import pointer
from fastdrop_kernels.cpu.runs import cut, drop

u64 = np.uint64


def kernel(dtype: str, element: Element) -> Any:
    """Compile the kernel that applies a mask and a scale."""
    storage, compute, widen, narrow = element
    itemsize = u64(np.dtype(storage).itemsize)

    def apply(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, scale = arguments[2], arguments[3], compute(float64_from_bits(arguments[6]))
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        n, skipped = end - first, (first - start) * itemsize
        x = carray(pointer(arguments[0] + skipped, storage), (n,))
        y = carray(pointer(arguments[1] + skipped, storage), (n,))
        keep = carray(pointer(arguments[4] + first, np.uint8), (n,))
        zero = narrow(compute(0))
        for i in range(n):
            kept = narrow(widen(x[i]) * scale)
            y[i] = kept if keep[i] else zero

    return compile_callback(KERNEL, apply, f"stored_{dtype}")


def rows_kernel(dtype: str, element: Element) -> Any:
    """Compile the kernel that applies a mask of rows and a scale."""
    storage, compute, widen, narrow = element
    itemsize = u64(np.dtype(storage).itemsize)

    def apply(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, length = arguments[2], arguments[3], arguments[8]
        scale, zero = compute(float64_from_bits(arguments[6])), narrow(compute(0))
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        last_row = (end + length - u64(1)) // length
        keep = carray(pointer(arguments[4], np.uint8), (last_row,))
        for row in range(first // length, last_row):
            here, n = cut(row, length, first, end)
            place = (here - start) * itemsize
            y = carray(pointer(arguments[1] + place, storage), (n,))
            if keep[row]:
                x = carray(pointer(arguments[0] + place, storage), (n,))
                for i in range(n):
                    y[i] = narrow(widen(x[i]) * scale)
            else:
                drop(y, zero)

    return compile_callback(KERNEL, apply, f"stored_rows_{dtype}")
