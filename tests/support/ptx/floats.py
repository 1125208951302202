"""Floating point arithmetic, rounded once to nearest even, and the hardware's approximate functions."""

import ctypes
import functools
from typing import Any, Final

import numpy as np

from ptx.formats import Array
from ptx.operation import Compute, Operation, Table, uniform


def flush(numbers: Array) -> Array:
    """Return float32 numbers with signed zeros for the subnormal ones; others as they are."""
    if numbers.dtype != np.float32:
        return numbers
    return np.where(np.abs(numbers) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), numbers), numbers)


def flushed(ftz: str | None, compute: Compute) -> Compute:
    """Return the computation that an instruction does with .ftz, and without it."""
    return (lambda *operands: flush(compute(*map(flush, operands)))) if ftz else compute


def smaller(a: Array, b: Array) -> Array:
    """Return the lesser number; a NaN loses to any, and -0 is less than +0."""
    first = (a < b) | (a == b) & np.signbit(a) | np.isnan(b)
    return np.where(first, a, b)


def larger(a: Array, b: Array) -> Array:
    """Return the greater number."""
    return -smaller(-a, -b)


@functools.cache
def fused_double() -> Any:
    """Return the C library's fused multiply-add, which Python has from 3.13 on only, for arrays."""
    function = ctypes.CDLL(None).fma
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    return np.frompyfunc(function, 3, 1)


def fused(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c, rounded once, in the type of c.

    The product of two float32 is exact in float64. The sum is rounded there to odd: if it is inexact, its last bit
    is set. So the second rounding, to fewer bits, knows that it is no tie.
    """
    if c.dtype == np.float64:
        return fused_double()(a, b, c).astype(np.float64)
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    outward = (error > 0) == (total > 0)
    odd = np.where(inexact, np.where(outward, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(c.dtype)


def approximate(name: str, ftz: str | None) -> Operation:
    """Return a function that the hardware has a table for, here in float64: the last bits are not a GPU's."""
    return uniform("f32", 1, flushed(ftz, lambda a: APPROXIMATE[name](a.astype(np.float64)).astype(np.float32)))


EXACT: Final[dict[str, Compute]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": smaller,
    "max": larger,
    "neg": np.negative,
    "abs": np.abs,
    "rcp": np.reciprocal,
    "sqrt": np.sqrt,
}
APPROXIMATE: Final[dict[str, Compute]] = {
    "rcp": np.reciprocal,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


def exact(operands: int) -> Any:
    """Return what makes operations of that many operands, of their name, .ftz and type."""
    return lambda name, ftz, type: uniform(type, operands, flushed(ftz, EXACT[name]))


ANY: Final = r"(\.ftz)?\.(f16|f32|f64)"

OPERATIONS: Final[Table] = {
    rf"(add|sub|mul)(?:\.rn)?{ANY}": exact(2),
    r"(div)\.rn(\.ftz)?\.(f32|f64)": exact(2),
    rf"(min|max){ANY}": exact(2),
    rf"(neg|abs){ANY}": exact(1),
    r"(rcp|sqrt)\.rn(\.ftz)?\.(f32|f64)": exact(1),
    rf"fma\.rn{ANY}": lambda ftz, type: uniform(type, 3, flushed(ftz, fused)),
    r"(add|sub)(?:\.rn)?\.f32\.(f16|bf16)": lambda name, narrow: Operation(
        ("f32",), (narrow, "f32"), lambda a, b: EXACT[name](a.astype(np.float32), b)
    ),
    r"fma\.rn\.f32\.(f16|bf16)": lambda narrow: Operation(("f32",), (narrow, narrow, "f32"), fused),
    r"copysign\.(f32|f64)": lambda type: uniform(type, 2, lambda sign, size: np.copysign(size, sign)),
    r"(rcp|sqrt|rsqrt|ex2|lg2|sin|cos|tanh)\.approx(\.ftz)?\.f32": approximate,
    r"div\.(?:approx|full)(\.ftz)?\.f32": lambda ftz: uniform("f32", 2, flushed(ftz, np.divide)),
}
