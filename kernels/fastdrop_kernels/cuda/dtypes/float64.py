"""float64: y = f(x) for eight bytes read, eight written, computed in float64.

A tile is 64 bytes, four accesses of the thread's own:

    first access    |0...|1...|2...| ...    a digit is the 16 bytes of a lane, a dot 16 bytes left out
    second access   |.0..|.1..|.2..| ...    and so on: every sector is requested twice

Per element on sm_90: 16 bytes and 11.8 instructions, three quarters of them on the 32-bit units. Few train in
float64, so lanes are not paired as for float32. At 4.3 TB/s a tenth of an H200's issue slots is used.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.casts import float64_bits
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes.traits import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import load_vector, store_vector

u32, u64 = np.uint32, np.uint64
HALF: Final = u64(32)


@inlined
def vector(address: Any) -> Any:
    """Read two values."""
    return load_vector(address, np.float64)


@inlined
def load(address: Any) -> Any:
    """Read the eight values of a tile."""
    return vector(address) + vector(address + u64(16)) + vector(address + u64(32)) + vector(address + u64(48))


@inlined
def words(v: Any) -> Any:
    """Return two values as four words: stores of doubles take one more instruction for each element."""
    a, b = float64_bits(v[0]), float64_bits(v[1])
    return u32(a), u32(a >> HALF), u32(b), u32(b >> HALF)


@inlined
def store(address: Any, v: Any) -> None:
    """Write the eight values of a tile."""
    store_vector(address, words(v[0:2]))
    store_vector(address + u64(16), words(v[2:4]))
    store_vector(address + u64(32), words(v[4:6]))
    store_vector(address + u64(48), words(v[6:8]))


FLOAT64: Final = DTypeTraits(np.float64, np.float64, load, store)
