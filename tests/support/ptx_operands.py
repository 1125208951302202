"""Operands for PTX instructions, and checks of what comes out against integers, fractions and struct of Python."""

import itertools
import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from ptx.snippets import array_type, evaluate

INTEGERS = ("s16", "u16", "s32", "u32", "s64", "u64")
FLOATS = {  # type -> bits of a significand, exponent of the lowest bit of all, largest number
    "f16": (11, -24, 65504.0),
    "f32": (24, -149, float.fromhex("0x1.fffffep127")),
    "f64": (53, -1074, float.fromhex("0x1.fffffffffffffp1023")),
}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": 0x7FF8000000000000}
SPECIAL = [0.0, -0.0, 1.0, -1.5, 2.5, 0.1, math.inf, -math.inf, math.nan, 1e-45, -1e-40, 6e-8, 3e-5, 65504.0, -3.4e38]


def width(type: str) -> int:
    return 1 if type == "pred" else int(type.lstrip("bsuf"))


def numbered(got: np.ndarray, operands: tuple[np.ndarray, ...]) -> Iterator[tuple[list[Any], Any]]:
    """Yield each thread's operands and result as Python numbers."""
    return zip(map(list, zip(*(each.tolist() for each in operands), strict=True)), got.tolist(), strict=True)


def expect(code: str, result: str, truth: Callable[..., Any], *operands: np.ndarray) -> None:
    """Check integers against a function of Python's, which may be right modulo 2**bits only."""
    for values, got in numbered(evaluate(code, result, *operands), operands):
        assert (got - truth(*values)) % 2 ** width(result) == 0, (code, values, got)


def raw(value: float, type: str) -> int:
    """Return the bits that a GPU has for a number."""
    packed = struct.pack({"f16": "<e", "f32": "<f", "f64": "<d"}[type], value)
    return NAN[type] if math.isnan(value) else int.from_bytes(packed, "little")


def expect_float(code: str, type: str, truth: Callable[..., float], *operands: np.ndarray) -> None:
    """Check numbers, zeros' signs and NaNs against a function of Python's."""
    for values, got in numbered(evaluate(code, type, *operands), operands):
        assert raw(got, type) == raw(truth(*values), type), (code, values, got)


def rounded(exact: Fraction, type: str) -> float:
    """Return the number of a type that is nearest to `exact`, of two the one with an even significand."""
    precision, lowest, largest = FLOATS[type]
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - precision
    if abs(exact) >= Fraction(2) ** (exponent + precision):
        exponent += 1
    unit = Fraction(2) ** max(exponent, lowest)
    nearest = abs(round(exact / unit) * unit)  # Fraction rounds ties to even
    return math.copysign(float(nearest) if nearest <= largest else math.inf, exact)


def once(truth: Callable[..., Any], type: str) -> Callable[..., float]:
    """Return a function's exact result, rounded once; what is not finite or zero is as in float64's own arithmetic."""

    def result(*values: float) -> float:
        try:
            if exact := truth(*map(Fraction, values)):
                return rounded(exact, type)
        except (ValueError, OverflowError, ZeroDivisionError):
            pass
        with np.errstate(all="ignore"):
            return float(truth(*map(np.float64, values)))

    return result


def root(value: Any) -> Any:
    """Return the square root, of a fraction to 1200 bits, and another bit for those beyond."""
    if isinstance(value, np.floating):
        return np.sqrt(value)
    scaled = value * 4**1200
    whole = math.isqrt(scaled.numerator // scaled.denominator)  # ValueError if it is negative
    return Fraction(2 * whole + (whole * whole != scaled), 2**1201)


def integers(type: str, operands: int = 2) -> list[np.ndarray]:
    """Return operands: all combinations of remarkable numbers, and random ones."""
    bits, unsigned = width(type), f"u{width(type) // 8}"
    edges = [0, 1, 2, 7, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2 ** (bits - 1) + 1, 2**bits - 2, 2**bits - 1]
    sets = np.array([*itertools.product(edges, repeat=operands)], unsigned).T
    more = np.random.default_rng(operands).integers(0, 256, (operands, 300 * bits // 8), np.uint8).view(unsigned)
    return list(np.concatenate([sets, more], axis=1).view(array_type(type)))


def floats(type: str, operands: int = 2) -> list[np.ndarray]:
    """Return operands: all combinations of remarkable numbers, random bits, and numbers of like sizes."""
    random, kind = np.random.default_rng(operands), array_type(type)
    with np.errstate(over="ignore"):
        sets = np.array([*itertools.product(SPECIAL, repeat=operands)]).T.astype(kind)
    bits = random.integers(0, 256, (operands, 300 * width(type) // 8), np.uint8).view(kind)
    return list(np.concatenate([sets, bits, random.standard_normal((operands, 500)).astype(kind)], axis=1))


def combined(*choices: Any, types: tuple[str, ...]) -> list[np.ndarray]:
    """Return operands: all combinations of these."""
    columns = zip(*itertools.product(*choices), strict=True)
    return [np.array(column, type) for column, type in zip(columns, types, strict=True)]
