"""float16 and bfloat16: y = f(x) for two bytes in, two out, computed in float32 and rounded once.

A tile is 16 bytes, one access, two elements a word:

    |0 |1 |2 |3 | ...    a digit is the 16 bytes of a lane: whole sectors, fully coalesced

Per element on sm_90: 4 bytes and 10.8 instructions, which use 35 % of an H200's issue slots at 4.3 TB/s. From sm_80 on
one instruction rounds two values to a word; sm_75 rounds bfloat16 by integer arithmetic, at 17 instructions.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fastdrop_kernels.casts import float32_bits, float32_from_bits, float32_from_half, half_from_float32
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes.traits import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import load_vector, pack_bfloat16, pack_float16, store_vector

u16, u32 = np.uint16, np.uint32
SIXTEEN: Final = u32(16)
NAN: Final = u32(0x7FFF)


@inlined
def widen_float16(bits: Any) -> Any:
    """Read float16 from the lower half of a word."""
    return float32_from_half(u16(bits))


@inlined
def narrow_float16(value: Any) -> Any:
    """Round to float16."""
    return half_from_float32(value)


@inlined
def widen_bfloat16(bits: Any) -> Any:
    """Read bfloat16 from the lower half of a word: it is the upper half of a float32."""
    return float32_from_bits(u32(u32(bits) << SIXTEEN))


@inlined
def narrow_bfloat16(value: Any) -> Any:
    """Round to bfloat16, ties to even. A GPU's NaN has all bits set, so rounding would overflow."""
    bits = float32_bits(value)
    rounded = u32(bits + u32(0x7FFF) + (u32(bits >> SIXTEEN) & u32(1)))
    return u16(u32(rounded >> SIXTEEN) if value == value else NAN)


def traits(widen: Any, narrow: Any, pack: Callable[[Any, Any], Any] | None) -> DTypeTraits:
    """Return the traits of a 16-bit dtype; without `pack` (upper, lower), values are rounded one by one."""

    @inlined
    def upper(word: Any) -> Any:
        return widen(u32(word >> SIXTEEN))

    @inlined
    def pack_one_by_one(high: Any, low: Any) -> Any:
        return u32(u32(u32(narrow(high)) << SIXTEEN) | u32(narrow(low)))

    packed = pack or pack_one_by_one

    @inlined
    def load(address: Any) -> Any:
        w = load_vector(address, u32)
        return widen(w[0]), upper(w[0]), widen(w[1]), upper(w[1]), widen(w[2]), upper(w[2]), widen(w[3]), upper(w[3])

    @inlined
    def store(address: Any, v: Any) -> None:
        store_vector(address, (packed(v[1], v[0]), packed(v[3], v[2]), packed(v[5], v[4]), packed(v[7], v[6])))

    return DTypeTraits(u16, np.float32, load, store, widen, narrow)


FLOAT16: Final = traits(widen_float16, narrow_float16, pack_float16)
BFLOAT16: Final = traits(widen_bfloat16, narrow_bfloat16, pack_bfloat16)
FLOAT16_SM75: Final = traits(widen_float16, narrow_float16, None)
BFLOAT16_SM75: Final = traits(widen_bfloat16, narrow_bfloat16, None)
