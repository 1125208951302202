"""The PTX interpreter against Python's integers, exact fractions, struct and torch, instruction by instruction."""

import itertools
import math
import operator
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mask_reference
import numpy as np
import pytest
import torch
from ptx import AccessError, Kernel, Memory, Sectors, Touched

INTEGERS = ("s16", "u16", "s32", "u32", "s64", "u64")
FLOATS = {  # type -> bits of a significand, exponent of the lowest bit of all, largest number
    "f16": (11, -24, 65504.0),
    "f32": (24, -149, float.fromhex("0x1.fffffep127")),
    "f64": (53, -1074, float.fromhex("0x1.fffffffffffffp1023")),
}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": 0x7FF8000000000000}
SPECIAL = [0.0, -0.0, 1.0, -1.5, 2.5, 0.1, math.inf, -math.inf, math.nan, 1e-45, -1e-40, 6e-8, 3e-5, 65504.0, -3.4e38]
HUGE = 2**40


def width(type: str) -> int:
    return 1 if type == "pred" else int(type.lstrip("bsuf"))


def array_type(type: str) -> str:
    """Return the NumPy type of a PTX type's numbers."""
    return "bool" if type == "pred" else {"b": "u", "u": "u", "s": "i", "f": "f"}[type[0]] + str(width(type) // 8)


def module(body: str, parameters: str = "", head: str = "") -> str:
    """Return a PTX module with one kernel; it has registers enough for the tests that declare none."""
    registers = ".reg .pred p, q, t; .reg .b16 h<4>; .reg .b32 r<8>; .reg .b64 w<8>;"
    return f"""
.version 8.6
.target sm_100
.address_size 64

.visible .entry kernel({parameters}) {head}
{{
    {registers}
    {body}
    ret;
}}
"""


def evaluate(code: str, result: str, *operands: np.ndarray) -> np.ndarray:
    """Return what code leaves in register d of each thread, whose operands are in registers a, b, c and e."""
    output, names = np.zeros(operands[0].size, array_type(result)), "abce"[: len(operands)]
    lines = ["mov.u32 r1, %ctaid.x; mov.u32 r2, %ntid.x; mov.u32 r3, %tid.x; mad.lo.s32 r0, r1, r2, r3;"]
    lines += ["ld.param.u32 r1, [n]; setp.ge.u32 p, r0, r1; @p ret;"]
    for name, array in zip((*names, "d"), (*operands, output), strict=True):
        kind = "pred" if array.dtype == bool else f"b{8 * array.itemsize}"
        lines += [f".reg .{kind} {name}; .reg .b64 at_{name};"]
        lines += [f"ld.param.u64 at_{name}, [p_{name}]; mad.wide.u32 at_{name}, r0, {array.itemsize}, at_{name};"]
        if name == "d":
            lines += [code]
            lines += [
                "selp.u16 h0, 1, 0, d; st.global.u8 [at_d], h0;" if kind == "pred" else f"st.global.{kind} [at_d], d;"
            ]
        elif kind == "pred":
            lines += [f"ld.global.u8 h0, [at_{name}]; setp.ne.u16 {name}, h0, 0;"]
        else:
            lines += [f"ld.global.{kind} {name}, [at_{name}];"]
    parameters = [*(f".param .u64 p_{name}" for name in (*names, "d")), ".param .u32 n"]
    memory = Memory()
    arguments = [*(memory.add(array, readonly=True) for array in operands), memory.add(output), output.size]
    Kernel(module("\n".join(lines), ", ".join(parameters)))(-(-output.size // 128), 128, arguments, memory)
    return output


def expect(code: str, result: str, truth: Callable[..., Any], *operands: np.ndarray) -> None:
    """Check integers, or raw bits, against a function of Python numbers; the truth may be any integer that wraps."""
    got = evaluate(code, result, *operands)
    bits = width(result)
    for values, value in zip(zip(*(each.tolist() for each in operands), strict=True), got.tolist(), strict=True):
        assert value % 2**bits == truth(*values) % 2**bits, (code, values)


def integers(type: str, operands: int = 2) -> list[np.ndarray]:
    """Return operands: all combinations of remarkable numbers, and random ones."""
    bits, random = width(type), np.random.default_rng(operands)
    edges = [0, 1, 2, 7, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2 ** (bits - 1) + 1, 2**bits - 1, 2**bits - 2]
    sets = [
        np.array(column, f"u{bits // 8}") for column in zip(*itertools.product(edges, repeat=operands), strict=True)
    ]
    more = random.integers(0, 256, (operands, 300 * bits // 8), np.uint8).view(f"u{bits // 8}")
    return [np.concatenate(pair).view(array_type(type)) for pair in zip(sets, more, strict=True)]


def floats(type: str, operands: int = 2) -> list[np.ndarray]:
    """Return operands: all combinations of remarkable numbers, random bits, and numbers of like sizes."""
    random, kind = np.random.default_rng(operands), array_type(type)
    with np.errstate(over="ignore"):
        sets = np.array(list(itertools.product(SPECIAL, repeat=operands))).T.astype(kind)
    bits = random.integers(0, 256, (operands, 300 * width(type) // 8), np.uint8).view(kind)
    like = random.standard_normal((operands, 500)).astype(kind)
    return list(np.concatenate([sets, bits, like], axis=1))


def rounded(exact: Fraction, type: str) -> float:
    """Return the number of a type that is nearest to `exact`, of two the one with an even significand."""
    precision, lowest, largest = FLOATS[type]
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - precision
    while abs(exact) >= Fraction(2) ** (exponent + precision):
        exponent += 1
    unit = Fraction(2) ** max(exponent, lowest)
    nearest = round(exact / unit) * unit  # Fraction rounds ties to even
    magnitude = float(abs(nearest)) if abs(nearest) <= largest else math.inf
    return math.copysign(magnitude, exact)


def flushed(value: float) -> float:
    return math.copysign(0.0, value) if abs(value) < 2.0**-126 else value


def raw(value: float, type: str) -> int:
    """Return the bits that a GPU has for a number."""
    if math.isnan(value):
        return NAN[type]
    return int.from_bytes(struct.pack({"f16": "<e", "f32": "<f", "f64": "<d"}[type], value), "little")


def expect_rounded(code: str, type: str, truth: Callable[..., Any], *operands: np.ndarray, ftz: bool = False) -> None:
    """Check against the exact result, rounded once; infinities, NaN and zeros follow float64's own arithmetic."""
    got = evaluate(code, type, *operands)
    same = flushed if ftz else lambda value: value
    for values, value in zip(zip(*(each.tolist() for each in operands), strict=True), got, strict=True):
        values = [same(each) for each in values]
        try:
            exact = truth(*map(Fraction, values))
            want = rounded(exact, type) if exact else float(truth(*map(np.float64, values)))
        except (ValueError, OverflowError, ZeroDivisionError):
            with np.errstate(all="ignore"):
                want = float(truth(*map(np.float64, values)))
        assert raw(float(value), type) == raw(same(want), type), (code, values, value, want)
        if math.isnan(want) and type in ("f16", "f32"):
            assert int(value.view(f"u{value.itemsize}")) == NAN[type], "the NaN that a GPU makes"


def root(value: Any) -> Any:
    """Return the square root: of a fraction to 200 bits, with one more that says whether there are others."""
    if isinstance(value, np.floating):
        return np.sqrt(value)
    if value < 0:
        raise ValueError("no real number")
    scaled = value * 4**1200
    floor = math.isqrt(scaled.numerator // scaled.denominator)
    return Fraction(2 * floor + (floor * floor != scaled), 2**1201)


@pytest.mark.parametrize("type", INTEGERS)
def test_integer_arithmetic(type):
    a, b = integers(type)
    for name, truth in {
        "add": operator.add,
        "sub": operator.sub,
        "mul.lo": operator.mul,
        "min": min,
        "max": max,
    }.items():
        expect(f"{name}.{type} d, a, b;", type, truth, a, b)
    expect(f"mul.hi.{type} d, a, b;", type, lambda a, b: a * b >> width(type), a, b)
    x, y, z = integers(type, 3)
    expect(f"mad.lo.{type} d, a, b, c;", type, lambda a, b, c: a * b + c, x, y, z)
    expect(f"mad.hi.{type} d, a, b, c;", type, lambda a, b, c: (a * b >> width(type)) + c, x, y, z)


@pytest.mark.parametrize("type", INTEGERS)
def test_division_rounds_towards_zero(type):
    def quotient(a: int, b: int) -> int:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    a, b = integers(type)
    a, b = a[b != 0], b[b != 0]
    expect(f"div.{type} d, a, b;", type, quotient, a, b)
    expect(f"rem.{type} d, a, b;", type, lambda a, b: a - b * quotient(a, b), a, b)
    with pytest.raises(ZeroDivisionError, match=f"div.{type} d, a, b"):
        evaluate(f"div.{type} d, a, b;", type, a, b * 0)


@pytest.mark.parametrize("type", ["s16", "u16", "s32", "u32"])
def test_wide_products(type):
    double = f"{type[0]}{2 * width(type)}"
    a, b = integers(type)
    expect(f"mul.wide.{type} d, a, b;", double, operator.mul, a, b)
    c = np.resize(integers(double, 1)[0], a.size)
    expect(f"mad.wide.{type} d, a, b, c;", double, lambda a, b, c: a * b + c, a, b, c)


@pytest.mark.parametrize("type", ["s16", "s32", "s64"])
def test_signs(type):
    (a,) = integers(type, 1)
    expect(f"neg.{type} d, a;", type, operator.neg, a)
    expect(f"abs.{type} d, a;", type, abs, a)


@pytest.mark.parametrize("type", ["b16", "b32", "b64"])
def test_logic(type):
    a, b = integers(type)
    for name, truth in {"and": operator.and_, "or": operator.or_, "xor": operator.xor}.items():
        expect(f"{name}.{type} d, a, b;", type, truth, a, b)
    expect(f"not.{type} d, a;", type, operator.inv, a)


def test_logic_of_predicates():
    a, b = (np.array(each, bool) for each in ([0, 0, 1, 1], [0, 1, 0, 1]))
    for name, truth in {"and": operator.and_, "or": operator.or_, "xor": operator.xor}.items():
        expect(f"{name}.pred d, a, b;", "pred", truth, a, b)
    expect("not.pred d, a;", "pred", operator.not_, a)
    expect("mov.pred d, a;", "pred", bool, a)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_beyond_the_width(bits):
    counts = [0, 1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 65536, 2**31, 2**32 - 1]
    for type in f"b{bits}", f"u{bits}", f"s{bits}":
        a, b = (np.array(x) for x in zip(*itertools.product(integers(type, 1)[0], counts), strict=True))
        expect(f"shr.{type} d, a, b;", type, lambda a, n: a >> n if n < 64 else -(a < 0), a, b.astype(np.uint32))
    expect(f"shl.b{bits} d, a, b;", type, lambda a, n: a << n if n < 64 else 0, a, b.astype(np.uint32))


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_funnel_shift(mode):
    a, b, _ = integers("u32", 3)
    c = np.resize(np.array([0, 1, 5, 31, 32, 33, 40, 2**32 - 1], np.uint32), a.size)

    def count(n: int) -> int:
        return min(n, 32) if mode == "clamp" else n % 32

    expect(f"shf.l.{mode}.b32 d, a, b, c;", "u32", lambda a, b, n: b << count(n) | a >> 32 - count(n), a, b, c)
    expect(f"shf.r.{mode}.b32 d, a, b, c;", "u32", lambda a, b, n: b << 32 - count(n) | a >> count(n), a, b, c)


@pytest.mark.parametrize("table", [0x00, 0x80, 0xF8, 0x96, 0xE8, 0x1B, 0xCA, 0xFE, 0xFF])
def test_lop3(table):
    def truth(a: int, b: int, c: int) -> int:
        bits = [(a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1 for i in range(32)]
        return sum((table >> index & 1) << i for i, index in enumerate(bits))

    expect(f"lop3.b32 d, a, b, c, {table};", "u32", truth, *(each[:500] for each in integers("u32", 3)))


def test_prmt():
    def truth(a: int, b: int, selector: int) -> int:
        choices = [selector >> 4 * i & 15 for i in range(4)]
        found = [struct.pack("<II", a, b)[choice & 7] for choice in choices]
        signed = [255 * (byte >> 7) if choice & 8 else byte for byte, choice in zip(found, choices, strict=True)]
        return int.from_bytes(bytes(signed), "little")

    random = np.random.default_rng(0).integers(0, 2**32, (3, 3000), np.uint32)
    expect("prmt.b32 d, a, b, c;", "u32", truth, *random)
    expect("prmt.b32 d, a, b, 0x5410;", "u32", lambda a, b: a & 0xFFFF | b << 16, *random[:2])


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

    places = [0, 1, 4, 15, 31, 32, 33, 63, 64, 255, 256, 259]
    numbers = [0xDEADBEEF12345678 % 2**bits, 2**bits - 1, 1 << bits - 1, 0x5555555555555555 % 2**bits]
    a, b, c = (np.array(each) for each in zip(*itertools.product(numbers, places, places), strict=True))
    a, b, c = a.astype(f"u{bits // 8}"), b.astype(np.uint32), c.astype(np.uint32)
    expect(f"bfe.u{bits} d, a, b, c;", f"u{bits}", lambda *each: extracted(*each, signed=False), a, b, c)
    expect(f"bfe.s{bits} d, a, b, c;", f"u{bits}", lambda *each: extracted(*each, signed=True), a, b, c)
    expect(f"bfi.b{bits} d, a, b, c, e;", f"u{bits}", inserted, a, a[::-1].copy(), b, c)


@pytest.mark.parametrize("type", FLOATS)
def test_float_arithmetic_is_rounded_once(type):
    a, b = floats(type)
    for name, truth in {"add": operator.add, "sub": operator.sub, "mul": operator.mul}.items():
        expect_rounded(f"{name}.{type} d, a, b;", type, truth, a, b)
        expect_rounded(f"{name}.rn.{type} d, a, b;", type, truth, a[:50], b[:50])


@pytest.mark.parametrize("type", ["f32", "f64"])
def test_division_and_roots_are_rounded_once(type):
    a, b = floats(type)
    expect_rounded(f"div.rn.{type} d, a, b;", type, operator.truediv, a, b)
    expect_rounded(f"rcp.rn.{type} d, a;", type, lambda a: 1 / a, a)
    expect_rounded(f"sqrt.rn.{type} d, a;", type, root, a)


@pytest.mark.parametrize("type", FLOATS)
def test_fma_is_rounded_once(type):
    a, b, c = floats(type, 3)
    c[-500:-250] = -(a * b)[-500:-250]  # what the product's own rounding took away is left
    expect_rounded(f"fma.rn.{type} d, a, b, c;", type, lambda a, b, c: a * b + c, a, b, c)


def test_fma_of_ties_and_their_neighbours():
    """Sums that lie on or next to the middle of two float32, where rounding to float64 first would fall on it."""
    one, tiny = np.float32(1 + 2**-12), np.float32(2**-80)
    a = np.array([one, one, one, -one, one, 2**-100, 1 + 2**-23], np.float32)
    b = np.array([one, one, one, one, -one, 2**-49, 1], np.float32)
    c = np.array([0, tiny, -tiny, tiny, tiny, 0, 2**-24], np.float32)
    expect_rounded("fma.rn.f32 d, a, b, c;", "f32", lambda a, b, c: a * b + c, a, b, c)


@pytest.mark.parametrize("narrow", ["f16", "bf16"])
def test_mixed_precision(narrow):
    """Blackwell's additions and multiplications of 16-bit operands into float32."""
    bits = np.random.default_rng(0).integers(0, 2**16, 3000, np.uint16)
    c = np.resize(floats("f32")[0], bits.size)
    a = bits.view(np.float16).astype(np.float32) if narrow == "f16" else (bits.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        wanted = {"add": a + c, "sub": a - c}
    for name, want in wanted.items():
        got = evaluate(f"{name}.rn.f32.{narrow} d, a, b;", "f32", bits, c)
        assert np.array_equal(got, want, equal_nan=True)
    exact = np.ldexp(np.float32(1.5), np.arange(40)).astype(np.float32)
    half = np.full(40, 0x3F80 if narrow == "bf16" else 0x3C00, np.uint16)  # 1
    assert np.array_equal(evaluate(f"fma.rn.f32.{narrow} d, a, a, b;", "f32", half, exact), exact + 1)


def test_ftz_flushes_what_comes_in_and_what_goes_out():
    a, b = floats("f32")
    for name, truth in {"add": operator.add, "mul": operator.mul}.items():
        expect_rounded(f"{name}.ftz.f32 d, a, b;", "f32", truth, a, b, ftz=True)
    expect_rounded("fma.rn.ftz.f32 d, a, b, b;", "f32", lambda a, b: a * b + b, a, b, ftz=True)
    expect_rounded("neg.ftz.f32 d, a;", "f32", operator.neg, a, ftz=True)
    subnormal = np.array([1e-40, -1e-40], np.float32)
    assert evaluate("setp.eq.ftz.f32 d, a, 0f00000000;", "pred", subnormal).all()
    assert not evaluate("setp.eq.f32 d, a, 0f00000000;", "pred", subnormal).any()
    assert evaluate("cvt.rpi.ftz.s32.f32 d, a;", "s32", subnormal).tolist() == [0, 0]


@pytest.mark.parametrize("type", FLOATS)
def test_signs_and_extremes_of_floats(type):
    a, b = floats(type)

    def least(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return b if math.isnan(a) else a
        return min(a, b, key=lambda each: (each, math.copysign(1, each)))

    def bits_of(truth: Callable[..., float]) -> Callable[..., int]:
        return lambda *values: raw(truth(*values), type)

    def check(code: str, truth: Callable[..., float], *operands: np.ndarray) -> None:
        got = evaluate(code, type, *operands).tolist()
        for values, value in zip(zip(*(each.tolist() for each in operands), strict=True), got, strict=True):
            assert raw(value, type) == raw(truth(*values), type), (code, values)

    check(f"min.{type} d, a, b;", least, a, b)
    check(f"max.{type} d, a, b;", lambda a, b: -least(-a, -b), a, b)
    check(f"neg.{type} d, a;", operator.neg, a)
    check(f"abs.{type} d, a;", abs, a)
    if type != "f16":
        check(f"copysign.{type} d, a, b;", lambda a, b: math.copysign(b, a), a[~np.isnan(a)], b[~np.isnan(a)])


def test_approximate_functions():
    x = np.random.default_rng(0).uniform(0.01, 50, 1000).astype(np.float32)
    truths = {
        "rcp": lambda a: 1 / a,
        "sqrt": math.sqrt,
        "rsqrt": lambda a: 1 / math.sqrt(a),
        "ex2": lambda a: 2**a,
        "lg2": math.log2,
        "sin": math.sin,
        "cos": math.cos,
        "tanh": math.tanh,
    }
    for name, truth in truths.items():
        got = evaluate(f"{name}.approx.f32 d, a;", "f32", x)
        np.testing.assert_allclose(got, [truth(a) for a in x.tolist()], rtol=2**-22)
    for kind in "approx", "full":
        np.testing.assert_allclose(evaluate(f"div.{kind}.f32 d, a, b;", "f32", x, x[::-1].copy()), x / x[::-1], 2**-22)
    assert evaluate("lg2.approx.ftz.f32 d, a;", "f32", np.array([1e-40], np.float32))[0] == -np.inf


COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@pytest.mark.parametrize("type", INTEGERS)
def test_comparisons_of_integers(type):
    unsigned = {"lo": operator.lt, "ls": operator.le, "hi": operator.gt, "hs": operator.ge} if type[0] == "u" else {}
    for name, truth in (COMPARISONS | unsigned).items():
        expect(f"setp.{name}.{type} d, a, b;", "pred", truth, *integers(type))


@pytest.mark.parametrize("type", FLOATS)
def test_comparisons_of_floats(type):
    a, b = floats(type)
    for name, truth in COMPARISONS.items():
        ordered = lambda a, b, truth=truth: truth(a, b) and a == a and b == b  # noqa: E731
        unordered = lambda a, b, truth=truth: truth(a, b) or a != a or b != b  # noqa: E731
        expect(f"setp.{name}.{type} d, a, b;", "pred", ordered, a, b)
        expect(f"setp.{name}u.{type} d, a, b;", "pred", unordered, a, b)
    expect(f"setp.num.{type} d, a, b;", "pred", lambda a, b: a == a and b == b, a, b)
    expect(f"setp.nan.{type} d, a, b;", "pred", lambda a, b: a != a or b != b, a, b)


@pytest.mark.parametrize(("name", "truth"), [("and", operator.and_), ("or", operator.or_), ("xor", operator.xor)])
def test_comparisons_combined_with_a_predicate(name, truth):
    """The second result is the opposite of the comparison, not of the combination."""
    a, b, c = (np.array(each) for each in zip(*itertools.product([1, 2], [1, 2], [False, True]), strict=True))
    a, b = a.astype(np.int32), b.astype(np.int32)
    expect(f"setp.lt.{name}.s32 d, a, b, c;", "pred", lambda a, b, c: truth(a < b, c), a, b, c)
    expect(f"setp.lt.{name}.s32 q|d, a, b, c;", "pred", lambda a, b, c: truth(a >= b, c), a, b, c)
    expect(f"setp.lt.{name}.s32 d|_, a, b, c;", "pred", lambda a, b, c: truth(a < b, c), a, b, c)
    expect("setp.lt.s32 q|d, a, b;", "pred", operator.ge, a, b)


@pytest.mark.parametrize("type", ["b16", "u32", "s64", "f32", "f64"])
def test_choices_keep_all_bits(type):
    """A signalling NaN too."""
    bits = width(type)
    a = np.array([2**bits - 1, 0x7F800001 % 2**bits, 5], f"u{bits // 8}")
    c = np.array([True, False, True])
    expect(f"selp.{type} d, a, b, c;", f"b{bits}", lambda a, b, c: a if c else b, a, a[::-1].copy(), c)
    expect(f"mov.{type} d, a;", f"b{bits}", lambda a: a, a)


@pytest.mark.parametrize("source", ["s8", "u8", *INTEGERS])
def test_conversions_of_integers(source):
    """A register may be wider than the source, whose lower bits count, and than the result, which is extended."""
    (a,) = integers("u64", 1)
    for to in "s8", "u8", *INTEGERS:
        register = f"b{max(width(to), 16)}"

        def truth(a: int, to: str = to) -> int:
            value = int(np.array(a, np.uint64).astype(array_type(source)))
            return int(np.array(value).astype(array_type(to)))

        expect(f"cvt.{to}.{source} d, a;", register, truth, a)


@pytest.mark.parametrize("source", INTEGERS)
def test_integers_to_floats(source):
    (a,) = integers(source, 1)
    more = np.array([2**24 + 1, 2**24 + 3, 65519, 65520, 2**53 + 1, 2**63 + 1025], np.uint64).astype(array_type(source))
    a = np.concatenate([a, more])
    for type in FLOATS:
        expect_rounded(f"cvt.rn.{type}.{source} d, a;", type, lambda a: a, a)


ROUNDINGS = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("source", FLOATS)
def test_floats_to_integers(source, rounding):
    (a,) = floats(source, 1)
    edges = [0.5, -0.5, 1.5, -2.5, 0.99999994, 2.0**31, 2.0**31 - 1, -(2.0**31), 2.0**63, -(2.0**63), 2.0**64, 1e30]
    with np.errstate(over="ignore"):
        a = np.concatenate([a, np.array(edges).astype(a.dtype)])
    for to in INTEGERS:
        info = np.iinfo(array_type(to))

        def truth(a: float, to: str = to, info: Any = info) -> int:
            if math.isnan(a):
                return 2 ** (width(to) - 1) if "f64" in source or "64" in to else 0
            nearest = a if math.isinf(a) else ROUNDINGS[rounding](a)
            return int(max(info.min, min(info.max, nearest)))

        expect(f"cvt.{rounding}.{to}.{source} d, a;", to, truth, a)


@pytest.mark.parametrize("type", FLOATS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounding_to_whole_floats(type, rounding):
    (a,) = floats(type, 1)
    got = evaluate(f"cvt.{rounding}.{type}.{type} d, a;", type, a)
    for value, result in zip(a.tolist(), got.tolist(), strict=True):
        whole = ROUNDINGS[rounding](value) if math.isfinite(value) else value
        assert raw(result, type) == raw(math.copysign(whole, value), type), value


def all_kinds_of_float32() -> np.ndarray:
    """Return every upper half of a float32 with lower halves on both sides of a tie, and ties of float16."""
    lower = [0, 1, 0x1000, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    return np.add.outer(np.arange(0, 2**32, 2**16, np.uint64), np.array(lower, np.uint64)).ravel().astype(np.uint32)


@pytest.mark.parametrize(("type", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_float32_to_16_bits_as_torch_rounds(type, dtype):
    bits = all_kinds_of_float32()
    x = torch.from_numpy(bits.view(np.float32))
    want = x.to(dtype).view(torch.int16).numpy().view(np.uint16)
    want = np.where(x.isnan().numpy(), NAN[type], want).astype(np.uint16)
    assert np.array_equal(evaluate(f"cvt.rn.{type}.f32 d, a;", "b16", bits), want)
    other = np.roll(bits, 12345)
    packed = evaluate(f"cvt.rn.{type}x2.f32 d, a, b;", "b32", bits, other)
    assert np.array_equal(packed >> 16, want)
    assert np.array_equal(packed & 0xFFFF, np.roll(want, 12345))


def test_16_bits_to_wider_floats():
    bits = np.arange(2**16, dtype=np.uint16)
    halves = np.array([struct.unpack("<e", struct.pack("<H", h))[0] for h in bits.tolist()])
    nan = np.isnan(halves)
    wide = evaluate("cvt.f32.f16 d, a;", "b32", bits)
    assert np.array_equal(wide[~nan].view(np.float32), halves[~nan])
    assert set(wide[nan].tolist()) == {NAN["f32"]}
    assert np.array_equal(evaluate("cvt.f64.f16 d, a;", "f64", bits), halves, equal_nan=True)
    assert np.array_equal(np.signbit(wide[~nan].view(np.float32)), bits[~nan] >> 15)
    wide = evaluate("cvt.f32.bf16 d, a;", "b32", bits)
    nan = (bits & 0x7FFF) > 0x7F80
    assert np.array_equal(wide[~nan], bits[~nan].astype(np.uint32) << 16)
    assert set(wide[nan].tolist()) == {NAN["f32"]}


def test_float64_to_and_from_others():
    (a,) = floats("f64", 1)
    ties = np.array([1 + 2**-24, 1 + 3 * 2**-24, 1 + 2**-24 + 2**-50, 2**-150, 2**-150 * (1 + 2**-40), 3.4028236e38])
    a = np.concatenate([a, ties, 1 + 2**-11 + np.array([0, 2**-40, -(2**-40)])])
    expect_rounded("cvt.rn.f32.f64 d, a;", "f32", lambda a: a, a)
    expect_rounded("cvt.rn.f16.f64 d, a;", "f16", lambda a: a, a)
    expect_rounded("cvt.f64.f32 d, a;", "f64", lambda a: a, floats("f32", 1)[0])


def test_immediate_operands():
    a = np.array([3], np.int32)
    assert evaluate("add.s32 d, a, -5;", "s32", a) == -2
    assert evaluate("add.u32 d, a, 4294967295U;", "u32", a) == 2
    assert evaluate("and.b64 d, w0, 0; or.b64 d, d, -4294967296;", "u64", a) == 2**64 - 2**32
    assert evaluate("xor.b32 d, a, 0xFFFFFFFF;", "u32", a) == 2**32 - 4
    assert evaluate("cvt.rn.f32.s32 r1, a; mul.f32 d, r1, 0f3FC00000;", "f32", a) == 4.5
    assert evaluate("cvt.rn.f64.s32 w1, a; add.f64 d, w1, 0dBFE0000000000000;", "f64", a) == 2.5
    with pytest.raises(ValueError, match="does not fit in u16"):
        evaluate("cvt.u16.u32 h1, a; add.u16 d, h1, 65536;", "u16", a)


def test_moves_pack_and_unpack():
    a, b = (np.array([each], np.uint64) for each in (0x1122334455667788, 0))
    assert evaluate("mov.b64 {r1, r2}, a; mov.b64 d, {r2, r1};", "b64", a) == 0x5566778811223344
    assert evaluate("mov.b64 {h0, h1, h2, h3}, a; mov.b32 d, {h3, h0};", "b32", a) == 0x77881122
    assert evaluate("mov.b64 {_, d}, a;", "b32", a) == 0x11223344
    assert evaluate("mov.b64 d, {r1, 7}; and.b64 d, d, b;", "b64", a, b) == 0


THREAD = "mov.u32 r1, %ctaid.x; mov.u32 r2, %ntid.x; mov.u32 r3, %tid.x; mad.lo.u32 r0, r1, r2, r3;"
TO_WORD = f"{THREAD} ld.param.u64 w0, [out]; mad.wide.u32 w1, r0, 4, w0;"  # w1: the address of the thread's word


def run(
    body: str, *buffers: np.ndarray, grid: Any = 1, block: Any = 32, parameters: str = "", args: Any = ()
) -> Memory:
    """Run code with the addresses of buffers as its parameters b0, b1, ..., and others after them."""
    memory = Memory()
    names = [f".param .u64 b{n}" for n in range(len(buffers))]
    ptx = module(body, ", ".join([*names, *filter(None, [parameters])]))
    Kernel(ptx)(grid, block, [*map(memory.add, buffers), *args], memory)
    return memory


def words(code: str, grid: Any = 1, block: Any = 32) -> list[int]:
    """Return what code leaves in r4 of each thread; r0 is the thread's number."""
    out = np.zeros(np.prod(grid) * np.prod(block), np.uint32)
    run(f"{TO_WORD} {code} st.global.u32 [w1], r4;".replace("[out]", "[b0]"), out, grid=grid, block=block)
    return out.tolist()


def test_special_registers():
    grid, block = (3, 2, 2), (5, 3, 2)
    names = [f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"]
    out = np.zeros((12, 30, len(names) + 1), np.uint32)
    number = "mov.u32 r0, %ctaid.z; mad.lo.u32 r0, r0, 2, 0; mov.u32 r1, %ctaid.y; add.u32 r0, r0, r1;"
    number += "mov.u32 r1, %ctaid.x; mad.lo.u32 r0, r0, 3, r1; mov.u32 r1, %tid.z; mad.lo.u32 r0, r0, 2, r1;"
    number += "mov.u32 r1, %tid.y; mad.lo.u32 r0, r0, 3, r1; mov.u32 r1, %tid.x; mad.lo.u32 r0, r0, 5, r1;"
    number += f"ld.param.u64 w0, [b0]; mad.wide.u32 w0, r0, {4 * out.shape[2]}, w0;"
    stores = [f"mov.u32 r1, %{name}; st.global.u32 [w0+{4 * i}], r1;" for i, name in enumerate([*names, "laneid"])]
    run(number + "".join(stores), out, grid=grid, block=block)
    for z, y, x in np.ndindex(2, 2, 3):
        for c, b, a in np.ndindex(2, 3, 5):
            thread = (c * 3 + b) * 5 + a
            want = [a, b, c, *block, x, y, z, *grid, thread % 32]
            assert out[(z * 2 + y) * 3 + x, thread].tolist() == want


def test_threads_part_and_meet_again():
    """Each of four paths is taken by the lanes it should, and after them all lanes of a warp are active together."""
    code = """
        and.b32 r2, r0, 1; setp.eq.u32 p, r2, 0; @p bra EVEN;
        setp.lt.u32 q, r0, 9; @!q bra BIG;
        activemask.b32 r3; mov.u32 r4, 100; bra JOIN;
    BIG:
        activemask.b32 r3; mov.u32 r4, 200; bra.uni JOIN;
    EVEN:
        activemask.b32 r3; mov.u32 r4, 300; @!p bra JOIN;
        setp.ge.u32 q, r0, 60; @q add.u32 r4, r4, 1;
    JOIN:
        activemask.b32 r5; setp.eq.u32 p, r5, 0xFFFFFFFF; @!p mov.u32 r4, 0; {}
    """
    paths = [300 + (i >= 60) if i % 2 == 0 else 100 if i < 9 else 200 for i in range(64)]
    assert words(code.format(""), block=64) == paths
    masks = [0x55555555 if i % 2 == 0 else 0xAA if i < 9 else 0xAAAAAAAA - 0xAA * (i < 32) for i in range(64)]
    assert words(code.format("mov.u32 r4, r3;"), block=64) == masks


def test_loops_of_different_lengths():
    """The steps of Collatz's sequence, and how many threads went through the loop, block sizes with half warps too."""

    def steps(n: int) -> int:
        return 0 if n == 1 else 1 + steps(n // 2 if n % 2 == 0 else 3 * n + 1)

    code = """
        add.u32 r5, r0, 1; mov.u32 r4, 0;
    LOOP:
        setp.eq.u32 p, r5, 1; @p bra DONE;
        and.b32 r6, r5, 1; shr.u32 r7, r5, 1; setp.eq.u32 q, r6, 0; mad.lo.u32 r6, r5, 3, 1; selp.u32 r5, r7, r6, q;
        add.u32 r4, r4, 1; bra LOOP;
    DONE:
    """
    for grid, block in (1, 100), (3, 33), (7, 16), (2, (8, 5, 2)):
        assert words(code, grid, block) == [steps(n + 1) for n in range(np.prod(grid) * np.prod(block))]
    ptx = module(f"{THREAD} {code}")
    statistics = Kernel(ptx)(5, 20, [], Memory())
    assert statistics.opcodes["shr.u32"] == sum(steps(n + 1) for n in range(100))
    assert statistics.opcodes["setp.eq.u32"] == 100 + 2 * statistics.opcodes["shr.u32"]
    assert statistics.opcodes["ret"] == 100


def test_threads_that_returned_do_nothing_more():
    out = np.full(64, 7, np.uint32)
    code = f"{TO_WORD} setp.lt.u32 p, r0, 5; @p ret; setp.gt.u32 p, r0, 60; @p exit; st.global.u32 [w1], r0;"
    run(code.replace("[out]", "[b0]"), out, block=64)
    assert out.tolist() == [i if 5 <= i <= 60 else 7 for i in range(64)]


def test_registers_hold_anything_before_they_are_written():
    assert words("setp.ge.u32 p, r0, 3; @p mov.u32 r4, 9;")[:3] != [0, 0, 0]


def shuffled(mode: str, value: list[int], b: int, c: int) -> list[tuple[int, bool]]:
    """Return each lane's value and whether it is from the segment, as NVIDIA's manual says it."""
    results = []
    for lane in range(32):
        offset, clamp, segment = b & 31, c & 31, c >> 8 & 31
        last = lane & segment | clamp & ~segment
        first = lane & segment
        j = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset, "idx": first | offset & ~segment}[mode]
        inside = j >= last if mode == "up" else j <= last
        results.append((value[j if inside else lane], inside))
    return results


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode):
    value = [lane * lane + 5 for lane in range(32)]
    for b, segment in itertools.product([0, 1, 3, 8, 16, 31, 33], [0, 16, 24, 30, 31]):
        c = segment << 8 | (0 if mode == "up" else 31)
        want = shuffled(mode, value, b, c)
        code = f"mov.u32 r5, %laneid; mad.lo.u32 r5, r5, r5, 5; shfl.sync.{mode}.b32 r4|p, r5, {b}, {c}, -1;"
        assert words(code, block=96) == 3 * [value for value, _ in want], (b, c)
        assert words(f"{code} selp.u32 r4, 1, 0, p;") == [inside for _, inside in want], (b, c)


def test_shuffles_of_lanes_that_are_not_there():
    shuffle = "shfl.sync.bfly.b32 r4, r0, 1, 31, {};"
    assert words(shuffle.format(-1), block=6) == [1, 0, 3, 2, 5, 4]  # lanes 6 and up never were
    gone = "setp.gt.u32 p, r0, 9; @p ret; " + shuffle
    assert words(gone.format(-1))[:10] == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    with pytest.raises(RuntimeError, match="lane that is not active, in `shfl.sync.bfly.b32 r4, r0, 1, 31, -1`"):
        words(shuffle.format(-1), block=5)
    apart = "setp.gt.u32 p, r0, 9; @p bra ON; " + shuffle + " ON: mov.u32 r5, 0;"
    assert words(apart.format(0x3FF))[:10] == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    with pytest.raises(RuntimeError, match="names lanes that are elsewhere"):
        words(apart.format(-1))
    with pytest.raises(RuntimeError, match="a thread is not in its own member mask"):
        words(shuffle.format(0xFFFF))
    with pytest.raises(RuntimeError, match="lane that is not active"):
        words("setp.gt.u32 p, r0, 9; @p bra ON; shfl.sync.idx.b32 r4, r0, 20, 31, 0x3FF; ON: mov.u32 r5, 0;")


def test_votes():
    few = "setp.lt.u32 q, r0, 5; "
    assert words(few + "vote.sync.ballot.b32 r4, q, -1;") == [31] * 32
    for kind, code, want in [
        ("any", "setp.lt.u32 q, r0, 5;", 1),
        ("any", "setp.gt.u32 q, r0, 99;", 0),
        ("all", "setp.lt.u32 q, r0, 99;", 1),
        ("all", "setp.lt.u32 q, r0, 31;", 0),
    ]:
        assert words(f"{code} vote.sync.{kind}.pred p, q, -1; selp.u32 r4, 1, 0, p;") == [want] * 32
    halves = (
        "setp.lt.u32 p, r0, 16; selp.b32 r5, 0xFFFF, 0xFFFF0000, p; vote.sync.all.pred q, p, r5; selp.u32 r4, 1, 0, q;"
    )
    assert words(halves) == [1] * 16 + [0] * 16


def test_loads_and_stores_of_every_width():
    x = np.random.default_rng(0).integers(0, 256, 64, np.uint8)
    for type, format in {"u8": "B", "s8": "b", "u16": "H", "s16": "h", "b32": "I", "s32": "i"}.items():
        y = np.zeros(2, np.uint64)
        memory = run(
            f"ld.param.u64 w0, [b0]; ld.param.u64 w1, [b1]; ld.global.{type} w2, [w0+8]; st.global.b64 [w1], w2;"
            f"st.global.{type} [w1+8], w2;", x, y, block=1,
        )  # fmt: skip
        (want,) = struct.unpack_from(format, x, 8)
        assert int(y[0]) == want % 2**64, type
        assert y[1:].tobytes() == struct.pack(format, want).ljust(8, b"\0")
        assert memory.touched(0x7F00_0000_0000)[:2] == (struct.calcsize(format),) * 2


@pytest.mark.parametrize(
    ("count", "type"), [(2, "u8"), (4, "u8"), (2, "b16"), (4, "f32"), (4, "b32"), (2, "f64"), (8, "b32"), (4, "b64")]
)
def test_vectors(count, type):
    """Vectors of every kind, with hints that change nothing; each thread's words come back in reverse order."""
    kind = "h" if width(type) < 32 else "r" if width(type) == 32 else "w"
    registers = [f"{kind}v{n}" for n in range(count)]
    size = count * width(type) // 8
    x = np.random.default_rng(0).integers(0, 2**16, (50, count), np.uint64).astype(f"u{width(type) // 8}")
    y = np.zeros_like(x)
    code = f"""{THREAD} .reg .b{max(16, width(type))} {", ".join(registers)};
        ld.param.u64 w0, [b0]; ld.param.u64 w1, [b1];
        mad.wide.u32 w0, r0, {size}, w0; mad.wide.u32 w1, r0, {size}, w1; add.s64 w1, w1, 64; add.s64 w0, w0, -32;
        ld.global.nc.L1::no_allocate.L2::128B.v{count}.{type} {{{", ".join(registers)}}}, [w0+32];
        st.global.cs.v{count}.{type} [w1+-64], {{{", ".join(reversed(registers))}}};"""
    memory = run(code, x, y, block=50)
    assert np.array_equal(y, x[:, ::-1])
    assert memory.touched(0x7F00_0000_0000) == (x.nbytes, x.nbytes, 0, 0)


ACCESS = "ld.param.u64 w0, [address]; {};"
LOAD, STORE = ACCESS.format("ld.global.v4.u32 {r1, r2, r3, r4}, [w0]"), ACCESS.format("st.global.u16 [w0+2], h0")


@pytest.mark.parametrize("distance", [-16, 64, 4096, 4352 + 64, -(2**46), 2**62])
@pytest.mark.parametrize("code", [LOAD, STORE])
def test_accesses_outside_every_buffer(code, distance):
    memory = Memory()
    address = memory.add(np.zeros(16, np.float32))
    memory.add(np.zeros(16, np.float32))
    kernel = Kernel(module(code, ".param .u64 address"))
    kernel(1, 1, [address], memory)
    kernel(1, 1, [address + 48], memory)
    kind, shift, size = ("load", 0, 16) if code is LOAD else ("store", 2, 2)
    at = address + distance - shift
    with pytest.raises(AccessError, match=f"{kind} of {size} bytes at {at + shift:#x} is not inside a buffer, in `"):
        kernel(1, 1, [at], memory)


def test_access_that_begins_inside_a_buffer_and_ends_outside():
    memory = Memory()
    address = memory.add(np.zeros(13, np.float32))
    kernel = Kernel(module(LOAD, ".param .u64 address"))
    kernel(1, 1, [address + 32], memory)
    with pytest.raises(AccessError, match=f"load of 16 bytes at {address + 48:#x} is not inside a buffer"):
        kernel(1, 1, [address + 48], memory)
    with pytest.raises(AccessError, match="at 0x0 is not inside a buffer"):
        kernel(1, 1, [0], memory)
    with pytest.raises(AccessError, match="not inside a buffer"):
        kernel(1, 1, [address], Memory())


def test_one_wrong_thread_of_many_is_found():
    memory = Memory()
    out = memory.add(np.zeros(99, np.uint32))
    with pytest.raises(AccessError, match=f"store of 4 bytes at {out + 4 * 99:#x} is not inside a buffer"):
        Kernel(module(f"{TO_WORD} st.global.u32 [w1], r0;", ".param .u64 out"))(1, 100, [out], memory)


@pytest.mark.parametrize(("code", "shift"), [(LOAD, 8), (LOAD, 4), (LOAD, 1), (STORE, 1), (STORE, 33)])
def test_misaligned_accesses(code, shift):
    memory = Memory()
    address = memory.add(np.zeros(16, np.float32))
    with pytest.raises(AccessError, match=r"(load of 16|store of 2) bytes at 0x\w+ is misaligned, in `(ld|st).global"):
        Kernel(module(code, ".param .u64 address"))(1, 1, [address + shift], memory)


def test_stores_to_a_read_only_buffer():
    memory = Memory()
    address = memory.add(np.zeros(16, np.float32), readonly=True)
    Kernel(module(LOAD, ".param .u64 address"))(1, 1, [address], memory)
    with pytest.raises(AccessError, match=f"store of 2 bytes at {address + 2:#x} is in a read-only buffer"):
        Kernel(module(STORE, ".param .u64 address"))(1, 1, [address], memory)
    assert memory.touched(address).stored == 0


def test_buffers_may_not_overlap_and_have_to_be_contiguous():
    memory, array = Memory(), np.zeros(16, np.float32)
    assert memory.add(array, address=0x1004) == 0x1004
    for address in 0x1003, 0x1004, 0x1004 + 63, 0x1004 - 63:
        with pytest.raises(ValueError, match=f"at {address:#x} overlaps the one at 0x1004"):
            memory.add(array, address=address)
    assert memory.add(array, address=0x1004 + 64) == 0x1044
    assert memory.add(array, address=0x1004 - 64) == 0xFC4
    with pytest.raises(ValueError, match="contiguous"):
        memory.add(array[::2])


def test_a_buffer_at_its_real_address():
    """As device memory is seen where host memory stands in for it: any address, also between two words of 16 bytes."""
    memory = Memory()
    buffer = np.zeros(1000, np.uint8)
    start = -buffer.ctypes.data % 16 + 4
    x = buffer[start : start + 4 * 15].view(np.uint32)
    x[:] = np.arange(15)
    address = memory.add(x, address=x.ctypes.data)
    kernel = Kernel(module(f"{LOAD} st.global.u32 [w0], r4;", ".param .u64 address"))
    kernel(1, 1, [address + 12], memory)
    assert x[3] == 6
    with pytest.raises(AccessError):
        kernel(1, 1, [address - 4], memory)
    kernel(1, 1, [address + 44], memory)
    with pytest.raises(AccessError):
        kernel(1, 1, [address + 60], memory)


def test_bytes_touched():
    """Every other word, and the first of them by all threads."""
    x, y = np.zeros(32, np.float64), np.zeros(32, np.float32)
    code = f"""{THREAD} ld.param.u64 w0, [b0]; ld.param.u64 w1, [b1]; mad.wide.u32 w2, r0, 16, w0; mad.wide.u32 w3, r0, 4, w1;
        ld.global.f64 w4, [w0]; ld.global.b32 r4, [w2]; ld.global.b32 r5, [w3]; st.global.u16 [w3+2], h0;"""
    memory = run(code, x, y, block=16)
    first, second = 0x7F00_0000_0000, 0x7F00_0000_0000 + 256 + 4096
    assert memory.touched(first) == Touched(16 * 8 + 16 * 4, 8 + 15 * 4, 0, 0)
    assert memory.touched(second) == (16 * 4, 16 * 4, 16 * 2, 16 * 2)
    with pytest.raises(StopIteration):
        memory.touched(first + 4)


def test_threads_that_access_different_buffers():
    x, y = np.arange(32, dtype=np.uint32), np.arange(100, 132, dtype=np.uint32)
    code = """mov.u32 r0, %tid.x; and.b32 r1, r0, 1; setp.eq.u32 p, r1, 0; ld.param.u64 w0, [b0]; ld.param.u64 w1, [b1];
        selp.b64 w2, w0, w1, p; mad.wide.u32 w2, r0, 4, w2; ld.global.u32 r4, [w2]; neg.s32 r4, r4; st.global.u32 [w2], r4;"""
    memory = run(code, x, y)
    even = np.arange(32) % 2 == 0
    assert np.array_equal(x.view(np.int32), np.where(even, -np.arange(32), np.arange(32)))
    assert np.array_equal(y.view(np.int32), np.where(even, 1, -1) * np.arange(100, 132))
    assert memory.touched(0x7F00_0000_0000) == (64,) * 4


def sectors_of(size: int, addresses: list[int], block: int) -> Sectors:
    """Count sectors warp by warp, with sets."""
    blocks = [addresses[i : i + block] for i in range(0, len(addresses), block)]
    warps = [threads[i : i + 32] for threads in blocks for i in range(0, block, 32)]
    return Sectors(
        sum(len({a // 32 for a in warp}) for warp in warps), sum(-(-len(warp) * size // 32) for warp in warps)
    )


PLACES = {  # of a thread's word, in words
    "contiguous": lambda i: i,
    "reversed": lambda i: 999 - i,
    "every other": lambda i: 2 * i,
    "far apart": lambda i: 64 * i,
    "the same": lambda i: 0,
    "odd and even": lambda i: i ^ 1,
    "scattered": lambda i: i * 7919 % 1021,
}


@pytest.mark.parametrize(("type", "count"), [("u8", 1), ("u16", 1), ("u32", 1), ("u32", 4), ("b64", 4)])
@pytest.mark.parametrize("places", PLACES)
def test_sectors(places, type, count):
    size, (grid, block) = count * width(type) // 8, (4, 72)
    numbers = [PLACES[places](i) for i in range(grid * block)]
    table, x = np.array(numbers, np.uint32), np.zeros((max(numbers) + 1) * size, np.uint8)
    names = "{" + ", ".join(["w4", "w5", "w6", "w7"][:count]) + "}"
    names, vector = (names, f".v{count}") if count > 1 else ("w4", "")
    code = f"""{THREAD} ld.param.u64 w0, [b0]; ld.param.u64 w1, [b1]; mad.wide.u32 w0, r0, 4, w0; ld.global.u32 r4, [w0];
        mad.wide.u32 w1, r4, {size}, w1; st.global{vector}.{type} [w1], {names};"""
    memory = Memory()
    args = [memory.add(table), memory.add(x)]
    statistics = Kernel(module(code, ".param .u64 b0, .param .u64 b1"))(grid, block, args, memory)
    assert statistics.store == sectors_of(size, [args[1] + size * n for n in numbers], block)
    assert statistics.load == sectors_of(4, [args[0] + 4 * n for n in range(grid * block)], block)


def test_sectors_tell_strided_from_contiguous():
    """Eight floats a thread: in two 16-byte halves of its own, or with every access of a warp in one piece."""
    x = np.zeros(8 * 64, np.float32)
    load = "ld.param.u64 w0, [b0]; mov.u32 r0, %tid.x; {} ld.global.v4.f32 {{r1, r2, r3, r4}}, [w1+{}];"
    codes = {16: "mad.wide.u32 w1, r0, 32, w0;", 1024: "mad.wide.u32 w1, r0, 16, w0;"}
    for second, place in codes.items():
        memory = Memory()
        kernel = Kernel(module(load.format(place, 0) + load.format(place, second), ".param .u64 b0"))
        statistics = kernel(1, 64, [memory.add(x)], memory)
        assert statistics.load == (Sectors(128, 64) if second == 16 else Sectors(64, 64))
        assert statistics.store == Sectors(0, 0)
        assert memory.touched(0x7F00_0000_0000) == (x.nbytes, x.nbytes, 0, 0)


FAR = f"""{THREAD.replace("mad.lo.u32 r0, r1, r2, r3", "cvt.u64.u32 w3, r3; mad.wide.u32 w2, r1, r2, w3")}
    ld.param.u64 w0, [x]; shl.b64 w1, w2, 3; add.s64 w1, w0, w1; st.global.u64 [w1], w2;"""


def test_some_blocks_of_a_huge_grid():
    """Elements beyond 2**31 and 2**40 of an array, of which only the part around them is there."""
    kernel = Kernel(module(FAR, ".param .u64 x"))
    for first in 2**31 // 512 - 3, 2**31 - 1 - 7:
        memory, part = Memory(), np.zeros(512 * 7, np.uint64)
        address = memory.add(part)
        statistics = kernel(2**31 - 1, 512, [address - 8 * 512 * first], memory, blocks=range(first, first + 7))
        assert part.tolist() == list(range(512 * first, 512 * (first + 7)))
        assert memory.touched(address) == (0, 0, part.nbytes, part.nbytes)
        assert statistics.opcodes["st.global.u64"] == part.size


def test_blocks_by_number():
    out = np.zeros(6 * 32, np.uint32)
    memory = Memory()
    code = f"mov.u32 r4, %ctaid.y; {TO_WORD} mad.lo.u32 r4, r4, 3, r1; mad.wide.u32 w1, r4, 128, w0; mad.wide.u32 w1, r3, 4, w1;"
    kernel = Kernel(module(f"{code} add.u32 r4, r4, 1; st.global.u32 [w1], r4;", ".param .u64 out"))
    kernel((3, 2), 32, [memory.add(out)], memory, blocks=[4, 1])
    assert out.reshape(6, 32)[:, 0].tolist() == [0, 2, 0, 0, 5, 0]
    for blocks in [6], range(-1, 3):
        with pytest.raises(ValueError, match=r"a grid of \(3, 2, 1\) has no blocks"):
            kernel((3, 2), 32, [0x7F00_0000_0000], memory, blocks=blocks)


@pytest.mark.parametrize(
    ("grid", "block"), [(2**31, 1), ((1, 65536), 1), (0, 1), (1, 1025), (1, 0), (1, (64, 64)), (1, (1, 1, 65))]
)
def test_launches_that_no_gpu_takes(grid, block):
    with pytest.raises(ValueError, match="no GPU runs"):
        Kernel(module(""))(grid, block, [], Memory())


def test_arguments():
    """Integers as signed or unsigned ones, floats of each type, parts of a parameter, pointers with attributes."""
    types = ["u8", "s16", "u32", "u64", "f32", "f64", "b64"]
    parameters = ", ".join(f".param .{type} p{n}" for n, type in enumerate(types))
    parameters += ", .param .u64 .ptr .align 1 out, .param .u64 .ptr .global .align 16 other"
    kernel = Kernel(module(
        "ld.param.u64 w0, [out]; ld.param.u8 w1, [p0]; st.global.u64 [w0], w1; ld.param.s16 w1, [p1]; st.global.u64 [w0+8], w1;"
        "ld.param.u32 w1, [p2]; st.global.u64 [w0+16], w1; ld.param.b32 w1, [p3+4]; st.global.u64 [w0+24], w1;"
        "ld.param.f32 w1, [p4]; st.global.u64 [w0+32], w1; ld.param.f64 w1, [p5]; st.global.u64 [w0+40], w1;"
        "ld.param.b64 w1, [p6]; st.global.u64 [w0+48], w1;", parameters,
    ))  # fmt: skip
    assert kernel.name == "kernel"
    assert [*kernel.params] == [
        *zip([*types, "u64", "u64"], [*(f"p{n}" for n in range(7)), "out", "other"], strict=True)
    ]
    out, memory = np.zeros(7, np.uint64), Memory()
    address = memory.add(out)
    kernel(1, 1, [255, -2, -1, 0x1122334455667788, 0.1, 0.1, -(2**63), address, 0], memory)
    single, double = raw(0.1, "f32"), raw(0.1, "f64")
    assert out.tolist() == [255, 2**64 - 2, 2**32 - 1, 0x11223344, raw(np.float32(0.1), "f32"), double, 2**63]
    for wrong, error in [(256, OverflowError), (-129, OverflowError), (1.0, TypeError)]:
        with pytest.raises(error):
            kernel(1, 1, [wrong, 0, 0, 0, 0, 0, 0, address, 0], memory)
    with pytest.raises(ValueError, match="shorter"):
        kernel(1, 1, [0, 0], memory)


def test_the_text_of_a_module():
    """Comments, directives, scopes that declare a name again, labels beside code, and the choice of a kernel."""
    inner = "{ .reg .u32 r4; mov.u32 r4, 5; { .reg .u32 r4; mov.u32 r4, 6; } add.u32 r7, r4, 1; }"
    text = f"""
        // mov.u32 r4, 1;
        .pragma "nounroll";
        .loc 1 23 4
        mov.u32 r4, /* not
        2 */ 3; {inner} {inner}
        bra L; add.u32 r4, r4, 100;
    L:  $M_1: add.u32 r4, r4, r7;
    """
    assert words(text) == [9] * 32
    two = module("ret; first: bra first;", head=".maxntid 32, 1, 1 .minnctapersm 2")
    two += module(f"{TO_WORD} st.global.u32 [w1], r0;", ".param .u64 out").replace(" kernel(", " other$1(")
    assert Kernel(two).name == Kernel(two, "kernel").name == "kernel"
    memory, out = Memory(), np.zeros(32, np.uint32)
    assert Kernel(two, "other$1").params == [("u64", "out")]
    Kernel(two, "other$1")(1, 32, [memory.add(out)], memory)
    assert out.tolist() == [*range(32)]
    with pytest.raises(ValueError, match="no kernel third"):
        Kernel(two, "third")
    with pytest.raises(ValueError, match="cannot read"):
        Kernel(two[: two.index("ret;")])


@pytest.mark.parametrize(
    "code",
    [
        "bar.sync 0",
        "atom.global.add.u32 r1, [w0], 1",
        "ld.shared.u32 r1, [w0]",
        "ld.volatile.global.u32 r1, [w0]",
        "ld.u32 r1, [w0]",
        "st.local.u32 [w0], r1",
        "add.sat.s32 r1, r2, r3",
        "add.cc.u32 r1, r2, r3",
        "add.rz.f32 r1, r2, r3",
        "add.f16x2 r1, r2, r3",
        "mul.f32x2 w1, w2, w3",
        "fma.rn.bf16 h1, h2, h3, h0",
        "mad.hi.sat.s32 r1, r2, r3, r4",
        "mul24.lo.u32 r1, r2, r3",
        "cvt.sat.u8.s32 h1, r1",
        "cvt.rz.f32.f64 r1, w1",
        "cvt.rn.relu.f16x2.f32 r1, r2, r3",
        "cvt.rn.f32.s32.x r1, r2",
        "prmt.b32.f4e r1, r2, r3, r4",
        "lop3.or.b32 r1|p, r2, r3, r4, 1, q",
        "shfl.bfly.b32 r1, r2, 1, 31",
        "min.NaN.f32 r1, r2, r3",
        "setp.eq.and.f16x2 p|q, r1, r2, t",
        "div.approx.f64 w1, w2, w3",
        "brx.idx r1, L",
        "call.uni foo, (r1)",
        "trap",
        ".shared .align 4 .b8 s[4]",
        ".param .b64 x",
        "mov.u64 w1, %clock64",
        "mov.u64 w1, symbol",
        "mov.f32 r1, 1.5",
        "@!nothing ret",
        "ld.global.u32 r1, [w0+w1]",
        "selp.b32 r1, r2, r3, !p",
    ],
)
def test_what_is_unknown_is_named(code):
    with pytest.raises(NotImplementedError) as caught:
        Kernel(module(f"{code};"))
    assert code in str(caught.value)


@pytest.mark.parametrize("parameter", [".param .align 8 .b8 x[16]", ".param .u64 x, .param .b8 y[4]", ".param u32 x"])
def test_what_no_parameter_can_be(parameter):
    with pytest.raises(NotImplementedError, match="parameter"):
        Kernel(module("", parameter))


CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]


@pytest.fixture
def cuda() -> Any:
    """Import numba.cuda, for its compiler, which needs no GPU."""
    pytest.importorskip("numba_cuda")
    from numba import cuda

    return cuda


def vector(memory: Memory, array: np.ndarray, readonly: bool = False) -> list[int]:
    """Return what numba.cuda's kernels take for an array: no owner, its sizes, address, shape and stride."""
    address = memory.add(array, readonly=readonly)
    return [0, 0, array.size, array.itemsize, address, array.size, array.itemsize]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_axpy(cuda, capability):
    def axpy(x, y, n, a):
        i = cuda.grid(1)
        while i < n:
            y[i] += a * x[i]
            i += cuda.gridsize(1)

    ptx, _ = cuda.compile_ptx(axpy, "void(float32[::1], float32[::1], int64, float32)", cc=capability)
    kernel = Kernel(ptx)
    assert "axpy" in kernel.name
    for n in 1, 191, 192, 5001:
        x, y = np.random.default_rng(n).standard_normal((2, n + 9)).astype(np.float32)
        want = y.copy()
        want[:n] = np.float32(0.3).astype(np.float64) * x[:n] + y[:n]  # an fma: exact in float64, but for a last bit
        memory = Memory()
        arguments = [*vector(memory, x, readonly=True), *vector(memory, y), n, 0.3]
        kernel(3, 64, arguments, memory)
        assert np.array_equal(y, want)
        assert memory.touched(arguments[4]) == (4 * n, 4 * n, 0, 0)
        assert memory.touched(arguments[11]) == (4 * n,) * 4


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_philox(cuda, capability):
    def philox(words, first, n, seed):
        i = cuda.grid(1)
        while i < n:
            counter = first + i
            c0, c1, c2, c3 = np.uint32(counter), np.uint32(counter >> 32), np.uint32(0), np.uint32(0)
            k0, k1 = np.uint32(seed), np.uint32(seed >> 32)
            for _ in range(7):
                a, b = np.uint64(c0) * np.uint64(0xD2511F53), np.uint64(c2) * np.uint64(0xCD9E8D57)
                c0, c1 = np.uint32(np.uint32(b >> np.uint64(32)) ^ c1 ^ k0), np.uint32(b)
                c2, c3 = np.uint32(np.uint32(a >> np.uint64(32)) ^ c3 ^ k1), np.uint32(a)
                k0, k1 = np.uint32(k0 + np.uint32(0x9E3779B9)), np.uint32(k1 + np.uint32(0xBB67AE85))
            words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3
            i += cuda.gridsize(1)

    kernel = Kernel(cuda.compile_ptx(philox, "void(uint32[::1], int64, int64, int64)", cc=capability)[0])
    for first, n, seed in (0, 3000, -1), (2**32 - 50, 100, 0x123456789ABCDEF):
        memory, words = Memory(), np.zeros(4 * n, np.uint32)
        kernel(7, 96, [*vector(memory, words), first, n, seed], memory)
        elements = np.arange(8 * first, 8 * (first + n), dtype=np.uint64)
        assert np.array_equal(words.view(np.uint16), mask_reference.draws(elements, seed % 2**64))


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_loop_that_every_thread_leaves_at_its_own_time(cuda, capability):
    def divisors(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            x, y = a[i], b[i]
            while y:
                x, y = y, x % y
            out[i] = x

    kernel = Kernel(cuda.compile_ptx(divisors, "void(uint64[::1], uint64[::1], float64[::1])", cc=capability)[0])
    a, b = np.random.default_rng(0).integers(0, 2**63, (2, 999), np.uint64) >> np.arange(999, dtype=np.uint64) % 60
    memory, out = Memory(), np.zeros(999)
    kernel(4, 256, [*vector(memory, a), *vector(memory, b), *vector(memory, out)], memory)
    assert out.tolist() == [float(math.gcd(*pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
