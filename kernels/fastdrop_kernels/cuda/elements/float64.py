"""float64: y = f(x) for eight bytes in, eight out, computed in float64.

A tile is 64 bytes, four accesses of the thread's own:

    first access    |0...|1...|2...| ...    a digit is the 16 bytes of a lane, a dot 16 bytes left out
    second access   |.0..|.1..|.2..| ...    and so on: half of every sector is asked for twice

Per element on sm_90: 16 bytes and 11.8 instructions, two thirds of them on the 32-bit units. Few train in float64, so
sectors are not dealt as float32's are. At an H200's 4.3 TB/s a tenth of its issue slots is busy.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.casts import float64_bits, float64_from_bits
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.elements.element import Element
from fastdrop_kernels.cuda.intrinsics import load_vector, store_vector

u32, u64 = np.uint32, np.uint64
HALF: Final = u64(32)


@inlined
def values(words: Any) -> Any:
    """Return the two values of a vector."""
    return (
        float64_from_bits(u64(words[1]) << HALF | u64(words[0])),
        float64_from_bits(u64(words[3]) << HALF | u64(words[2])),
    )


@inlined
def vector(a: Any, b: Any) -> Any:
    """Return the words of two values."""
    one, other = float64_bits(a), float64_bits(b)
    return u32(one), u32(one >> HALF), u32(other), u32(other >> HALF)


@inlined
def load(address: Any) -> Any:
    """Read the eight values of a tile."""
    return (
        values(load_vector(address))
        + values(load_vector(address + u64(16)))
        + values(load_vector(address + u64(32)))
        + values(load_vector(address + u64(48)))
    )


@inlined
def store(address: Any, v: Any) -> None:
    """Write the eight values of a tile."""
    store_vector(address, vector(v[0], v[1]))
    store_vector(address + u64(16), vector(v[2], v[3]))
    store_vector(address + u64(32), vector(v[4], v[5]))
    store_vector(address + u64(48), vector(v[6], v[7]))


FLOAT64: Final = Element(np.float64, np.float64, load, store)
