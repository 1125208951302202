"""How an element of each dtype is widened to the type that is computed in, and narrowed again, rounded once.

float16 and bfloat16 are loaded and stored as 16-bit integers and computed in float32.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from fastdrop_kernels.casts import float32_bits, float32_from_bits
from fastdrop_kernels.cpu.compiler import inlined
from fastdrop_kernels.cpu.half import narrow_float16, widen_float16


class DTypeTraits(NamedTuple):
    """A dtype as the kernels see it."""

    storage: type  # NumPy scalar class of one element in memory
    compute: type  # NumPy scalar class that formulas compute in
    widen: Callable[[Any], Any]  # storage -> compute, exact
    narrow: Callable[[Any], Any]  # compute -> storage, rounded to nearest even


@inlined
def same(value: Any) -> Any:
    """Return the value: such a dtype is computed in itself."""
    return value


@inlined
def widen_bfloat16(bits: Any) -> Any:
    """Read bfloat16: the upper half of a float32."""
    return float32_from_bits(np.uint32(bits) << np.uint32(16))


@inlined
def narrow_bfloat16(value: Any) -> Any:
    """Round to bfloat16, ties to even.

    A NaN that arithmetic propagates from a bfloat16 operand has a lower half of zeros, out of which rounding never
    carries, so it needs no special case.
    """
    bits = float32_bits(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


TRAITS: Final = {
    "float16": DTypeTraits(np.uint16, np.float32, widen_float16, narrow_float16),
    "bfloat16": DTypeTraits(np.uint16, np.float32, widen_bfloat16, narrow_bfloat16),
    "float32": DTypeTraits(np.float32, np.float32, same, same),
    "float64": DTypeTraits(np.float64, np.float64, same, same),
}
BYTE: Final = DTypeTraits(np.uint8, np.uint8, same, same)  # of a bool mask
