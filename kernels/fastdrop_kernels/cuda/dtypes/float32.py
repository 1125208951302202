"""float32: y = f(x) for four bytes in, four out.

A thread's counter belongs to 32 bytes, two accesses. Were they its own 32 bytes, each request of a warp would touch 32
bytes in every 32-byte sector's half only:

    BLOCKED, first access    |0.|1.|2.|3.| ...    a digit is the 16 bytes of a lane, a dot 16 bytes left out
              second access   |.0|.1|.2|.3| ...

Instead, neighbouring lanes halve the 64 bytes of both, and exchange the draws that the other one needs:

    LANE_PAIRED,    first access    |01|..|23|..| ...    whole sectors
              second access   |..|01|..|23| ...

Per element on sm_90: 8 bytes and 11 instructions (9.5 adjacent). An H200 that copies 4.3 TB/s takes 0.54e12 elements a
second; its 132 multiprocessors issue 33e12 instructions, so dealing keeps 18 % of its issue slots busy: the memory
rules. Which way is faster only a GPU can tell; until then sm_90 and later deal, earlier ones do not.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes.traits import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import load_vector, of_neighbour, store_vector
from fastdrop_kernels.cuda.packages import cuda

u32, u64 = np.uint32, np.uint64
WARP: Final = 32  # lanes


@inlined
def vector(address: Any) -> Any:
    """Read four values."""
    return load_vector(address, np.float32)


@inlined
def load_adjacent(address: Any) -> Any:
    """Read the thread's own eight values."""
    return vector(address) + vector(address + u64(16))


@inlined
def store_adjacent(address: Any, v: Any) -> None:
    """Write the thread's own eight values."""
    store_vector(address, v[:4])
    store_vector(address + u64(16), v[4:])


@inlined
def is_odd() -> Any:
    """Return 1 in odd lanes, 0 in even ones."""
    return u32(cuda.threadIdx.x) & u32(1)


@inlined
def load_dealt(address: Any) -> Any:
    """Read the first halves of two neighbours' tiles in an even lane, the second halves in an odd one."""
    first = address - u64(is_odd()) * u64(16)
    return vector(first) + vector(first + u64(32))


@inlined
def store_dealt(address: Any, v: Any) -> None:
    """Write what `load_dealt` has read."""
    first = address - u64(is_odd()) * u64(16)
    store_vector(first, v[:4])
    store_vector(first + u64(32), v[4:])


@inlined
def either(one: Any, other: Any, mask: Any) -> Any:
    """Return `one` where mask's bits are set, else `other`: one instruction, where a branch would split the loop."""
    return u32(other ^ ((one ^ other) & mask))


@inlined
def exchange(words: Any) -> Any:
    """Exchange the words of the half tile that the neighbouring lane has loaded."""
    odd = u32(u32(0) - is_odd())
    a = of_neighbour(either(words[0], words[2], odd))
    b = of_neighbour(either(words[1], words[3], odd))
    return either(a, words[0], odd), either(b, words[1], odd), either(words[2], a, odd), either(words[3], b, odd)


@inlined
def halves_dealt(tile: Any) -> Any:
    """Return the numbers of the half tiles that `load_dealt` reads."""
    first = tile + tile - u64(is_odd())
    return first, first + u64(2)


BLOCKED: Final = DTypeTraits(np.float32, np.float32, load_adjacent, store_adjacent)
LANE_PAIRED: Final = DTypeTraits(
    np.float32, np.float32, load_dealt, store_dealt, exchange=exchange, halves=halves_dealt, lockstep=WARP
)
