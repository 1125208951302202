"""Moves, and conversions between types."""

from typing import Final

import numpy as np

from ptx.floats import flushed
from ptx.formats import NUMBERS, Array, plain, to_raw, width
from ptx.operation import Operation, Table, uniform

ROUND: Final = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def convert(ftz: str | None, to: str, source: str) -> Operation:
    """Return a conversion that needs no more than NumPy's: it wraps integers and rounds to nearest even."""
    return Operation((to,), (source,), flushed(ftz, lambda a: a.astype(NUMBERS[to])))


def pack(to: str) -> Operation:
    """Return the rounding of two float32 to 16 bits each; the first becomes the upper half."""

    def compute(high: Array, low: Array) -> Array:
        high, low = (to_raw(a.astype(NUMBERS[to]), to).astype(np.uint32) for a in (high, low))
        return high << 16 | low

    return Operation(("b32",), ("f32", "f32"), compute)


def to_integer(rounding: str, ftz: str | None, to: str, source: str) -> Operation:
    """Return the rounding to an integer type, whose ends stand for all beyond them.

    NaN becomes 0, but the highest bit where either type has 64.
    """
    integer, ends = NUMBERS[to], np.iinfo(NUMBERS[to])
    nan = np.uint64(1 << width(to) - 1).astype(integer) if "64" in to + source else integer(0)

    def compute(a: Array) -> Array:
        rounded = ROUND[rounding](a.astype(np.float64))
        low, high = rounded <= float(ends.min), rounded >= float(ends.max)  # float(2**63 - 1) is 2**63
        result = np.where(low | high | np.isnan(a), 0, rounded).astype(integer)
        result[low], result[high], result[np.isnan(a)] = ends.min, ends.max, nan
        return result

    return Operation((to,), (source,), flushed(ftz, compute))


def move(type: str) -> Operation:
    """Return a copy of all bits; a move takes no interest in what they mean."""
    return uniform(plain(type), 1, lambda a: a)


INTEGER: Final = "([su](?:8|16|32|64))"

OPERATIONS: Final[Table] = {
    r"mov\.(pred|[bsu](?:16|32|64)|f(?:16|32|64))": move,
    r"cvta(?:\.to)?\.global\.(u64)": move,  # all memory is global here
    rf"cvt\.{INTEGER}\.{INTEGER}": lambda to, source: convert(None, to, source),
    rf"cvt\.rn\.(f16|f32|f64)\.{INTEGER}": lambda to, source: convert(None, to, source),
    rf"cvt\.(rni|rzi|rmi|rpi)(\.ftz)?\.{INTEGER}\.(f16|f32|f64)": to_integer,
    r"cvt\.(rni|rzi|rmi|rpi)(\.ftz)?\.(f16|f32|f64)\.\3": lambda rounding, ftz, type: uniform(
        type, 1, flushed(ftz, ROUND[rounding])
    ),
    r"cvt(\.ftz)?\.(f32)\.(f16|bf16)": convert,
    r"cvt(\.ftz)?\.(f64)\.(f16|f32)": convert,
    r"cvt\.rn(\.ftz)?\.(f16|bf16)\.(f32)": convert,
    r"cvt\.rn(\.ftz)?\.(f16|f32)\.(f64)": convert,
    r"cvt\.rn\.(f16|bf16)x2\.f32": pack,
}
