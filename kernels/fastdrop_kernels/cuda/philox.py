"""The draws of one counter: Philox4x32-7, computed by one thread.

A round is two wide products and two three-way xors:

    (c0, c1, c2, c3) <- (hi(M1 * c2) ^ c1 ^ k0, lo(M1 * c2), hi(M0 * c0) ^ c3 ^ k1, lo(M0 * c0)),  k0 += W0, k1 += W1

so 28 instructions give the draws of eight elements: 3.5 an element, a third of all that a dropout executes.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.intrinsics import mul_wide

u32, u64 = np.uint32, np.uint64
HALF: Final = u64(32)
M0: Final = u32(stream.PHILOX_M0)
M1: Final = u32(stream.PHILOX_M1)
W0: Final = u32(stream.PHILOX_W0)
W1: Final = u32(stream.PHILOX_W1)


@inlined
def philox4x32(counter: Any, seed: Any, offset: Any) -> Any:
    """Return the four output words of counter (counter, offset) under key seed, each of 64 bits: eight draws."""
    c0, c1, c2, c3 = u32(counter), u32(counter >> HALF), u32(offset), u32(offset >> HALF)
    k0, k1 = u32(seed), u32(seed >> HALF)
    for _ in range(stream.PHILOX_ROUNDS):
        product0, product1 = mul_wide(c0, M0), mul_wide(c2, M1)
        c0, c1 = u32(u32(product1 >> HALF) ^ c1 ^ k0), u32(product1)
        c2, c3 = u32(u32(product0 >> HALF) ^ c3 ^ k1), u32(product0)
        k0, k1 = u32(k0 + W0), u32(k1 + W1)
    return c0, c1, c2, c3
