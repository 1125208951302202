"""float32: y = f(x) for four bytes read, four written.

A thread's counter covers 32 bytes, two accesses. In a blocked arrangement (as CUB calls it) a thread accesses its own
32 bytes, and each access of a warp touches only half of every 32-byte sector:

    BLOCKED       first access    |0.|1.|2.|3.| ...    a digit is the 16 bytes of a lane, a dot 16 bytes left out
                  second access   |.0|.1|.2|.3| ...

In a lane-paired arrangement, two neighbouring lanes split the 64 bytes of both, and exchange draws by a shuffle:

    LANE_PAIRED   first access    |01|..|23|..| ...    whole sectors
                  second access   |..|01|..|23| ...

Per element on sm_90: 8 bytes and 11 instructions (9.5 blocked). An H200 that copies at 4.3 TB/s processes 0.54e12
elements a second; its 132 multiprocessors issue 33e12 instructions, so the lane-paired kernel uses 18 % of its issue
slots: it is bound by memory. Only a GPU can tell which arrangement is faster; until then sm_90 and later use
LANE_PAIRED, earlier ones BLOCKED.
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
def load_blocked(address: Any) -> Any:
    """Read the thread's own eight values."""
    return vector(address) + vector(address + u64(16))


@inlined
def store_blocked(address: Any, v: Any) -> None:
    """Write the thread's own eight values."""
    store_vector(address, v[:4])
    store_vector(address + u64(16), v[4:])


@inlined
def is_odd() -> Any:
    """Return 1 in odd lanes, 0 in even ones."""
    return u32(cuda.threadIdx.x) & u32(1)


@inlined
def load_paired(address: Any) -> Any:
    """Read the first halves of two neighbours' tiles in an even lane, the second halves in an odd one."""
    first = address - u64(is_odd()) * u64(16)
    return vector(first) + vector(first + u64(32))


@inlined
def store_paired(address: Any, v: Any) -> None:
    """Write to where `load_paired` reads."""
    first = address - u64(is_odd()) * u64(16)
    store_vector(first, v[:4])
    store_vector(first + u64(32), v[4:])


@inlined
def either(one: Any, other: Any, mask: Any) -> Any:
    """Return the bits of `one` where mask is set, else those of `other`: one instruction (LOP3), no branch."""
    return u32(other ^ ((one ^ other) & mask))


@inlined
def exchange(words: Any) -> Any:
    """Give the neighbouring lane the draws of the half tile that it has loaded, and take those of this lane's."""
    odd = u32(u32(0) - is_odd())
    a = of_neighbour(either(words[0], words[2], odd))
    b = of_neighbour(either(words[1], words[3], odd))
    return either(a, words[0], odd), either(b, words[1], odd), either(words[2], a, odd), either(words[3], b, odd)


@inlined
def paired_halves(tile: Any) -> Any:
    """Return the indices of the half tiles that `load_paired` reads."""
    first = tile + tile - u64(is_odd())
    return first, first + u64(2)


BLOCKED: Final = DTypeTraits(np.float32, np.float32, load_blocked, store_blocked)
LANE_PAIRED: Final = DTypeTraits(
    np.float32, np.float32, load_paired, store_paired, exchange=exchange, halves=paired_halves, lockstep=WARP
)
