"""The types of PTX: how many bits they have, and which numbers the raw bits of a register stand for."""

import functools
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Where: TypeAlias = slice | Array  # which threads of many, as an index

WIDTHS: Final = (8, 16, 32, 64)
RAW: Final[dict[int, Any]] = {1: np.bool_} | {bits: np.dtype(f"u{bits // 8}").type for bits in WIDTHS}
NUMBERS: Final[dict[str, Any]] = {  # type -> what NumPy computes with
    "pred": np.bool_,
    "bf16": np.float32,
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}").type for kind in "bu" for bits in WIDTHS},
    **{f"s{bits}": np.dtype(f"i{bits // 8}").type for bits in WIDTHS},
    **{f"f{bits}": np.dtype(f"f{bits // 8}").type for bits in WIDTHS[1:]},
}
CANONICAL_NAN: Final = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}  # those of float64 are left as they are


@functools.cache
def width(type: str) -> int:
    """Return the number of bits of a type."""
    return 1 if type == "pred" else int(type.lstrip("bfsu"))


def plain(type: str) -> str:
    """Return the type that copies these bits as they are, whatever NaN they may be."""
    return type.replace("f", "b")


def to_numbers(raw: Array, type: str) -> Array:
    """Return what raw bits are as numbers of a type; of wider registers the low bits count."""
    raw = raw.astype(RAW[width(type)], copy=False)
    if type == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.view(NUMBERS[type])


def to_raw(numbers: Array, type: str) -> Array:
    """Return the bits of floating point numbers, bfloat16 rounded, NaNs as a GPU has them; integers as they are.

    Integers keep their sign so that a wider register, to which they are written, is filled with it.
    """
    if numbers.dtype.kind != "f":
        return numbers
    bits = numbers.view(RAW[8 * numbers.itemsize])
    if type == "bf16":
        odd = bits >> 16 & 1  # ties go to the even neighbour
        bits = (bits + 0x7FFF + odd >> 16).astype(np.uint16)
    return np.where(np.isnan(numbers), bits.dtype.type(CANONICAL_NAN[type]), bits) if type in CANONICAL_NAN else bits


@functools.cache
def constant(value: int, type: str) -> Array:
    """Return the bits of an immediate operand as an array of one number."""
    bits = width(type)
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise ValueError(f"{value:#x} does not fit in {type}")
    numbers = to_numbers(np.array([value % (1 << bits)], RAW[bits]), type)
    numbers.flags.writeable = False
    return numbers
