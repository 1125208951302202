"""A block's draws: Philox4x32-7 of successive counters, written to a small buffer in element order.

The loop holds 32-bit words in 64-bit lanes: `(a & LOW32) * M` is then one vpmuludq, whose two halves are the two words
that a round needs, and the upper halves of other lanes may hold garbage, which the next multiplication ignores.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cpu.compiler import inlined
from fastdrop_kernels.cpu.intrinsics import swap_halves

u64 = np.uint64
LOW32: Final = u64(0xFFFFFFFF)
HALF: Final = u64(32)
M0: Final = u64(stream.PHILOX_M0)
M1: Final = u64(stream.PHILOX_M1)
W0: Final = u64(stream.PHILOX_W0)
W1: Final = u64(stream.PHILOX_W1)


@inlined
def philox4x32(product0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the output words of the counter (c0, c1, c2, c3), given ``product0 = c0 * M0``.

    As two uint64: ``(word 0 | word 1 << 32, word 2 | word 3 << 32)``.
    """
    product1 = (c2 & LOW32) * M1
    for _ in range(stream.PHILOX_ROUNDS - 1):
        c0, c1, c2, c3 = (product1 >> HALF) ^ c1 ^ k0, product1, (product0 >> HALF) ^ c3 ^ k1, product0
        product0, product1 = (c0 & LOW32) * M0, (c2 & LOW32) * M1
        k0, k1 = k0 + W0, k1 + W1
    # The last round, packed: with its halves swapped, a product has both words where the result needs them.
    return swap_halves(product1) ^ ((c1 ^ k0) & LOW32), swap_halves(product0) ^ ((c3 ^ k1) & LOW32)


@inlined
def fill(words: Any, first_counter: Any, counters: Any, seed: Any, offset: Any) -> None:
    """Write the draws of ``counters`` counters from ``first_counter`` on: two uint64, eight draws, a counter.

    The counters must share their upper 32 bits, as those of one block do. LLVM then hoists whatever does not depend on
    the lower ones, most of the first two rounds, out of the loop, and the first product is a mere addition.
    """
    high, product0 = first_counter >> HALF, (first_counter & LOW32) * M0
    for j in range(counters):
        even, odd = philox4x32(product0, high, offset, offset >> HALF, seed & LOW32, seed >> HALF)
        words[u64(2) * j] = even
        words[u64(2) * j + u64(1)] = odd
        product0 += M0
