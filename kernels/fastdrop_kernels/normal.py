"""The standard normal number of a 32-bit word, bit for bit the same on every device.

z is the quantile at u = (word + 1/2) / 2**32. With the smaller tail h = min(u, 1 - u), x = 1 - 2h, y = h (1 - h):

    z = +-x f,    f = root(v) + y (correction(v) + c y),    v = log2(y) + 3

As ``4y = 1 - x**2``, f is smooth in the middle, where x = 0, and in the tails it grows like the root of -v. To take
that logarithm is due to Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011); he needs two
polynomials, one in its root. With terms in y, which vanish in the tails, one form will do for all: there is no root,
no division and no choice.

h and x are both made from the word's integer, so neither loses digits where it is small. The largest error is 3.7e-7
of z, five units in its last place.

All operations are integer ones, exact ones, single ones or fused multiply-adds: no compiler may round them otherwise.
The coefficients are minimax fits, of f's relative error and of the logarithm's absolute one.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.arithmetic import fma, polynomial
from fastdrop_kernels.casts import float32_bits, float32_from_bits

f32, i32, u32 = np.float32, np.int32, np.uint32
LARGEST: Final = i32(0x7FFFFFFF)
SIGN: Final = u32(0x80000000)
UNIT: Final = f32(2.0**-32)  # of u
HALF_UNIT: Final = f32(2.0**-33)
FRACTION: Final = u32(0x007FFFFF)  # bits of a float32
ONE: Final = u32(0x3F800000)
FRACTION_BITS: Final = u32(23)
SQRT2: Final = f32(2.0**0.5)
EXPONENT: Final = f32(0.5 - 127 + 3)  # log2(SQRT2), less the exponent's bias; 3 centres v

# log2(SQRT2 + d) = 1/2 + d * slope(d) for SQRT2 + d in [1, 2), to 3.0e-7
slope: Final = polynomial(
    1.02014291, -0.360688746, 0.169868007, -0.0897328258, 0.052555237, -0.0341105647, 0.0150905773
)  # fmt: skip
# 2 f = root(v) + y * (correction(v) + LAST * y), to 1.2e-7 of f
root: Final = polynomial(
    2.83885026, -0.587521195, -0.0185819939, -0.000607097347, -1.37444204e-05, -1.84004591e-07, -1.09017417e-09
)
correction: Final = polynomial(1.12842762, 0.137730598, -0.109166928, 0.021045249, -0.000415533403)
LAST: Final = f32(-0.31844753)


# In three steps, of which none calls another: each device compiles them its own way, and the CPU in two loops.


def tail_of(word: Any) -> Any:
    """Return of a uint32: all bits set where z > 0, else none; h in units, less a half; and y."""
    upper = i32(i32(word) >> i32(31))
    tail = i32(i32(word) ^ upper)
    h = fma(f32(tail), UNIT, HALF_UNIT)
    return upper, tail, fma(-h, h, h)


def logarithm(y: Any) -> Any:
    """Return v."""
    bits = float32_bits(y)
    d = float32_from_bits(u32(u32(bits & FRACTION) | ONE)) - SQRT2
    return fma(slope(d), d, f32(i32(bits >> FRACTION_BITS)) + EXPONENT)


def normal(upper: Any, tail: Any, y: Any, v: Any) -> Any:
    """Return the normal number, a float32: that of ``~word`` is minus that of ``word``, and none is 0."""
    half_x = fma(f32(i32(tail ^ LARGEST)), UNIT, HALF_UNIT)
    ratio = fma(fma(LAST, y, correction(v)), y, root(v))
    return float32_from_bits(u32(float32_bits(half_x * ratio) | u32(~u32(upper) & SIGN)))
