"""The bytes of a bool mask: y = keep, nothing read, one byte written.

A tile is 16 elements, one access, the draws of two counters:

    |0 |1 |2 |3 | ...    a digit is the 16 bytes of a lane: whole sectors

Per element on sm_90: 1 byte and 7.6 instructions. At the bandwidth of an H200's memory that is as many instructions as
it can issue: this kernel is bound by arithmetic, not by memory.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes.traits import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import store_vector

u8, u32 = np.uint8, np.uint32


@inlined
def no_values(address: Any) -> Any:
    """Return placeholders for the values of a tile: a mask depends on draws alone."""
    eight = u8(0), u8(0), u8(0), u8(0), u8(0), u8(0), u8(0), u8(0)
    return eight + eight


@inlined
def word(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Pack four bytes into a word."""
    return u32(u32(a) | u32(u32(b) << u32(8)) | u32(u32(c) << u32(16)) | u32(u32(d) << u32(24)))


@inlined
def store(address: Any, v: Any) -> None:
    """Write the sixteen bytes of a tile."""
    store_vector(
        address,
        (
            word(v[0], v[1], v[2], v[3]),
            word(v[4], v[5], v[6], v[7]),
            word(v[8], v[9], v[10], v[11]),
            word(v[12], v[13], v[14], v[15]),
        ),
    )


BYTE: Final = DTypeTraits(u8, u8, no_values, store, tile=16)
