"""Integer arithmetic and logic; it wraps around, as NumPy's does."""

from typing import Final

import numpy as np

from ptx.formats import Array, width
from ptx.operation import Compute, Operation, Table, uniform


def divide(a: Array, b: Array) -> Array:
    """Return a / b, rounded towards zero."""
    if not b.all():
        raise ZeroDivisionError("division by zero, which a GPU answers with anything")
    quotient = (np.abs(a).view(f"u{a.itemsize}") // np.abs(b).view(f"u{b.itemsize}")).view(a.dtype)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def remainder(a: Array, b: Array) -> Array:
    """Return what `divide` leaves, with the sign of a."""
    return a - divide(a, b) * b


def multiply_wide(a: Array, b: Array) -> Array:
    """Return the whole product of a and b."""
    double = np.dtype(f"{a.dtype.kind}{2 * a.itemsize}")
    return a.astype(double) * b.astype(double)


def multiply_high(a: Array, b: Array) -> Array:
    """Return the upper half of the product of a and b."""
    bits = 8 * a.itemsize
    if bits < 64:
        return (multiply_wide(a, b) >> bits).astype(a.dtype)
    low = 0xFFFFFFFF
    a_low, a_high, b_low, b_high = a & low, a >> 32, b & low, b >> 32
    carry = ((a_low.view(np.uint64) * b_low.view(np.uint64)) >> 32).view(a.dtype)
    middle = a_high * b_low + carry
    return a_high * b_high + (middle >> 32) + ((a_low * b_high + (middle & low)) >> 32)


def shift_left(a: Array, count: Array) -> Array:
    """Shift left; counts beyond the width give 0, in NumPy as in PTX, but have to fit in a's type."""
    return a << np.minimum(count, 127).astype(a.dtype)


def shift_right(a: Array, count: Array) -> Array:
    """Shift right; counts beyond the width leave copies of the sign, or 0."""
    return a >> np.minimum(count, 127).astype(a.dtype)


def funnel_shift(direction: str, mode: str) -> Operation:
    """Shift 64 bits, of which the first operand is the lower half; the upper (l) or lower (r) half is kept."""

    def compute(low: Array, high: Array, count: Array) -> Array:
        count = np.minimum(count, 32) if mode == "clamp" else count & 31
        both = high.astype(np.uint64) << 32 | low
        shifted = both << count >> 32 if direction == "l" else both >> count
        return shifted.astype(np.uint32)

    return uniform("u32", 3, compute)


def look_up(a: Array, b: Array, c: Array, table: Array) -> Array:
    """Return, bit by bit, bit 4a + 2b + c of the table."""
    result = np.zeros_like(a)
    for index in range(8):
        if table.item() >> index & 1:
            result |= (a if index & 4 else ~a) & (b if index & 2 else ~b) & (c if index & 1 else ~c)
    return result


def permute(low: Array, high: Array, selector: Array) -> Array:
    """Pick each byte from eight by 4 bits of the selector: which one, and whether to spread its sign instead."""
    both, result = high.astype(np.uint64) << 32 | low, np.zeros_like(low)
    for place in range(4):
        choice = selector >> 4 * place
        byte = (both >> 8 * (choice & 7) & 0xFF).astype(np.uint32)
        byte = np.where(choice & 8, (byte >> 7) * 0xFF, byte)
        result = result | byte << 8 * place
    return result


def extract(type: str) -> Operation:
    """Return bits of a from a position on, as many as asked for, with the sign of the highest of them, if signed."""

    def compute(a: Array, position: Array, length: Array) -> Array:
        position, length = ((each & 0xFF).astype(np.int64) for each in (position, length))
        up = np.maximum(width(type) - position - length, 0)  # brings the field's highest bit to the top
        field = shift_right(shift_left(a, up), up + position)
        return np.where(length == 0, a.dtype.type(0), field)

    return Operation((type,), (type, "u32", "u32"), compute)


def insert(type: str) -> Operation:
    """Return b with bits from a position on, as many as asked for, replaced by the lowest of a."""

    def compute(a: Array, b: Array, position: Array, length: Array) -> Array:
        position, length = position & 0xFF, length & 0xFF
        one = a.dtype.type(1)
        mask = shift_left(shift_left(one, length) - one, position)
        return b & ~mask | shift_left(a, position) & mask

    return Operation((type,), (type, type, "u32", "u32"), compute)


def wide(type: str) -> str:
    """Return the type of a product of two of `type`."""
    return f"{type[0]}{2 * width(type)}"


PRODUCTS: Final[dict[str, Compute]] = {"lo": np.multiply, "hi": multiply_high}
TWO_OPERANDS: Final[dict[str, Compute]] = {
    "add": np.add,
    "sub": np.subtract,
    "div": divide,
    "rem": remainder,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
ANY: Final = "([su](?:16|32|64))"
BITS: Final = "(pred|b16|b32|b64)"

OPERATIONS: Final[Table] = {
    rf"(add|sub|div|rem|min|max)\.{ANY}": lambda name, type: uniform(type, 2, TWO_OPERANDS[name]),
    rf"(and|or|xor)\.{BITS}": lambda name, type: uniform(type, 2, TWO_OPERANDS[name]),
    rf"not\.{BITS}": lambda type: uniform(type, 1, np.invert),
    r"neg\.(s16|s32|s64)": lambda type: uniform(type, 1, np.negative),
    r"abs\.(s16|s32|s64)": lambda type: uniform(type, 1, np.abs),
    rf"mul\.(lo|hi)\.{ANY}": lambda half, type: uniform(type, 2, PRODUCTS[half]),
    rf"mad\.(lo|hi)\.{ANY}": lambda half, type: uniform(type, 3, lambda a, b, c: PRODUCTS[half](a, b) + c),
    r"mul\.wide\.([su](?:16|32))": lambda type: Operation((wide(type),), (type, type), multiply_wide),
    r"mad\.wide\.([su](?:16|32))": lambda type: Operation(
        (wide(type),), (type, type, wide(type)), lambda a, b, c: multiply_wide(a, b) + c
    ),
    r"shl\.(b16|b32|b64)": lambda type: Operation((type,), (type, "u32"), shift_left),
    r"shr\.([bsu](?:16|32|64))": lambda type: Operation((type,), (type, "u32"), shift_right),
    r"shf\.([lr])\.(clamp|wrap)\.b32": funnel_shift,
    r"lop3\.b32": lambda: uniform("b32", 4, look_up),
    r"prmt\.b32": lambda: Operation(("b32",), ("b32", "b32", "b32"), permute),
    r"bfe\.([su](?:32|64))": extract,
    r"bfi\.(b32|b64)": insert,
}
