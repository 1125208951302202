"""The PTX interpreter's arithmetic, logic and bit fields of integers against Python's integers, bit by bit."""

import operator
import struct

import numpy as np
import pytest
from ptx.snippets import array_type, evaluate
from ptx_operands import INTEGERS, combined, expect, integers, width


@pytest.mark.parametrize("type", INTEGERS)
def test_integer_arithmetic(type):
    truths = {"add": operator.add, "sub": operator.sub, "mul.lo": operator.mul, "min": min, "max": max}
    for name, truth in truths.items():
        expect(f"{name}.{type} d, a, b;", type, truth, *integers(type))
    expect(f"mul.hi.{type} d, a, b;", type, lambda a, b: a * b >> width(type), *integers(type))
    expect(f"mad.lo.{type} d, a, b, c;", type, lambda a, b, c: a * b + c, *integers(type, 3))
    expect(f"mad.hi.{type} d, a, b, c;", type, lambda a, b, c: (a * b >> width(type)) + c, *integers(type, 3))


@pytest.mark.parametrize("type", INTEGERS)
def test_division_rounds_towards_zero(type):
    def quotient(a: int, b: int) -> int:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    a, b = integers(type)
    a, b = a[b != 0], b[b != 0]
    expect(f"div.{type} d, a, b;", type, quotient, a, b)
    expect(f"rem.{type} d, a, b;", type, lambda a, b: a - b * quotient(a, b), a, b)
    with pytest.raises(ZeroDivisionError, match=f"in `div.{type} d, a, b`"):
        evaluate(f"div.{type} d, a, b;", type, a, b * 0)


@pytest.mark.parametrize("type", ["s16", "u16", "s32", "u32"])
def test_wide_products(type):
    double = f"{type[0]}{2 * width(type)}"
    a, b = integers(type)
    expect(f"mul.wide.{type} d, a, b;", double, operator.mul, a, b)
    c = np.resize(integers(double, 1)[0], a.size)
    expect(f"mad.wide.{type} d, a, b, c;", double, lambda a, b, c: a * b + c, a, b, c)


@pytest.mark.parametrize("type", ["s16", "s32", "s64"])
def test_signs_of_integers(type):
    expect(f"neg.{type} d, a;", type, operator.neg, *integers(type, 1))
    expect(f"abs.{type} d, a;", type, abs, *integers(type, 1))


@pytest.mark.parametrize("type", ["pred", "b16", "b32", "b64"])
def test_logic(type):
    a, b = combined([0, 1], [0, 1], types=("bool", "bool")) if type == "pred" else integers(type)
    for name, truth in {"and": operator.and_, "or": operator.or_, "xor": operator.xor}.items():
        expect(f"{name}.{type} d, a, b;", type, truth, a, b)
    expect(f"not.{type} d, a;", type, lambda a: -1 - a, a)
    expect(f"mov.{type} d, a;", type, lambda a: a, a)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_beyond_the_width(bits):
    counts = [0, 1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 65536, 2**31, 2**32 - 1]
    for type in f"b{bits}", f"u{bits}", f"s{bits}":
        a, b = combined(integers(type, 1)[0], counts, types=(array_type(type), "u4"))
        expect(f"shr.{type} d, a, b;", type, lambda a, n: a >> min(n, 64), a, b)
    expect(f"shl.b{bits} d, a, b;", type, lambda a, n: a << min(n, 64), a, b)


@pytest.mark.parametrize(("mode", "count"), [("clamp", lambda n: min(n, 32)), ("wrap", lambda n: n % 32)])
def test_funnel_shift(mode, count):
    a, b = integers("u32")
    c = np.resize(np.array([0, 1, 5, 31, 32, 33, 40, 2**32 - 1], np.uint32), a.size)
    expect(f"shf.l.{mode}.b32 d, a, b, c;", "u32", lambda a, b, n: b << count(n) | a >> 32 - count(n), a, b, c)
    expect(f"shf.r.{mode}.b32 d, a, b, c;", "u32", lambda a, b, n: b << 32 - count(n) | a >> count(n), a, b, c)


@pytest.mark.parametrize("table", [0x00, 0x80, 0xF8, 0x96, 0xE8, 0x1B, 0xCA, 0xFE, 0xFF])
def test_lop3(table):
    def truth(a: int, b: int, c: int) -> int:
        return sum((table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i for i in range(32))

    expect(f"lop3.b32 d, a, b, c, {table};", "u32", truth, *(each[-99:] for each in integers("u32", 3)))


def test_prmt():
    def truth(a: int, b: int, selector: int) -> int:
        choices = [selector >> 4 * i & 15 for i in range(4)]
        bytes_ = [struct.pack("<II", a, b)[choice & 7] for choice in choices]
        signed = [byte >> 7 and 255 if choice & 8 else byte for byte, choice in zip(bytes_, choices, strict=True)]
        return int.from_bytes(bytes(signed), "little")

    a, b, c = np.random.default_rng(0).integers(0, 2**32, (3, 3000), np.uint32)
    expect("prmt.b32 d, a, b, c;", "u32", truth, a, b, c)
    expect("prmt.b32 d, a, b, 0x5410;", "u32", lambda a, b: a & 0xFFFF | b << 16, a, b)


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_fields(bits):
    """As NVIDIA's manual has them: bit by bit."""

    def extracted(a: int, position: int, length: int, signed: bool) -> int:
        position, length = position & 255, length & 255
        sign = a >> min(position + length - 1, bits - 1) & 1 if signed and length else 0
        field = [a >> position + i & 1 if i < length and position + i < bits else sign for i in range(bits)]
        return sum(bit << i for i, bit in enumerate(field))

    def inserted(a: int, b: int, position: int, length: int) -> int:
        for i in range(min(length & 255, bits - (position & 255))):
            place = (position & 255) + i
            b = b & ~(1 << place) | (a >> i & 1) << place
        return b

    type, places = f"u{bits}", [0, 1, 4, 15, 31, 32, 33, 63, 64, 255, 256, 259]
    numbers = [0xDEADBEEF12345678 % 2**bits, 2**bits - 1, 1 << bits - 1, 0x5555555555555555 % 2**bits]
    a, b, c = combined(numbers, places, places, types=(array_type(type), "u4", "u4"))
    expect(f"bfe.u{bits} d, a, b, c;", type, lambda *each: extracted(*each, signed=False), a, b, c)
    expect(f"bfe.s{bits} d, a, b, c;", type, lambda *each: extracted(*each, signed=True), a, b, c)
    expect(f"bfi.b{bits} d, a, b, c, e;", type, inserted, a, a[::-1].copy(), b, c)
