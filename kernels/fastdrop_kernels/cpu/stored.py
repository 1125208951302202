"""The loop for a mask that lies in memory, a byte an element: y = x * scale where kept, else +0.

Of a kernel's arguments (see blocks.py), `seed` is the address of the mask's bytes here, and `p` the scale.
"""

from typing import Any

import numpy as np
from numba import carray

from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.blocks import BLOCK
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.elements import Element
from fastdrop_kernels.cpu.intrinsics import fence, pointer
from fastdrop_kernels.cpu.results import is_streamed, write

u64 = np.uint64


@inlined
def select(x: Any, y: Any, first: Any, arguments: Any) -> None:
    """Write every x to y, scaled, where a byte of the mask says so, else +0."""
    mask, scale, zero, widen, narrow = arguments
    keep = carray(pointer(mask + first, np.uint8), (u64(x.size),))
    for i in range(u64(x.size)):
        kept = narrow(widen(x[i]) * scale)
        y[i] = kept if keep[i] else zero


def kernel(dtype: str, element: Element) -> Any:
    """Compile the kernel that applies a mask and a scale."""
    storage, compute, widen, narrow = element
    itemsize = u64(np.dtype(storage).itemsize)

    def apply(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, scale = arguments[2], arguments[3], compute(float64_from_bits(arguments[6]))
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        x, y = arguments[0] + (first - start) * itemsize, arguments[1] + (first - start) * itemsize
        streamed = is_streamed(x, y, count * itemsize, u64(0))
        these = arguments[4] + first, scale, narrow(compute(0)), widen, narrow
        write(select, storage, itemsize, x, y, end - first, streamed, these)
        if streamed:
            fence()

    return compile_callback(KERNEL, apply, f"stored_{dtype}")
