"""The streams, version 1: which elements are dropped, and what noise an element gets, on every device.

Element e (64-bit) draws 16-bit number ``e % 8`` of Philox4x32-7 at

    counter (lo32(e // 8), hi32(e // 8), lo32(offset), hi32(offset)),  key (lo32(seed), hi32(seed))

and is dropped if and only if its draw is below its block's threshold.

Where an element gets a normal number instead, element e's comes from 32-bit word ``e % 4`` of Philox4x32-7 at

    counter (lo32(e // 4), hi32(e // 4), lo32(offset), hi32(offset)),  key (lo32(seed), hi32(seed))

as the quantile of the standard normal distribution at ``(word + 1/2) / 2**32``, computed as normal.py does.

These numbers are the contract between all devices and all users: a change of any of them changes every mask, and all
noise, that was ever reproduced.

Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC'11); 7 rounds is its crush-resistant minimum.
"""

from typing import Any, Final

import numpy as np

PHILOX_ROUNDS: Final = 7
PHILOX_M0: Final = 0xD2511F53
PHILOX_M1: Final = 0xCD9E8D57
PHILOX_W0: Final = 0x9E3779B9
PHILOX_W1: Final = 0xBB67AE85

DRAWS_PER_COUNTER: Final = 8  # four 32-bit words, two 16-bit draws each, low half first
NORMALS_PER_COUNTER: Final = 4  # a 32-bit word each
BLOCK: Final = 1024  # elements that share one threshold
DITHER: Final = 40503  # odd, 2**16 / golden ratio: thresholds of successive blocks spread evenly


u64 = np.uint64  # an operand of another type would make Numba compute in float64 or int64


def block_threshold(block: Any, p32: Any, seed: Any, offset: Any) -> Any:
    """Return the threshold of a block's draws, 0..65536, for ``p32 = round(p * 2**32)``.

    ``(p32 + (40503 * block + seed + offset) % 2**16) >> 16``: its mean over the blocks is ``p * 2**16`` to within
    ``2**-16``, so the drop rate is exact to ``2**-32`` although a draw has only 16 bits. Operands are unsigned
    64-bit; each device compiles this function its own way.
    """
    return (p32 + ((block * u64(DITHER) + seed + offset) & u64(0xFFFF))) >> u64(16)
