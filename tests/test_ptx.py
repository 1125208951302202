"""The PTX interpreter against Python's integers, exact fractions, struct and torch, instruction by instruction."""

import itertools
import math
import operator
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import mask_reference
import numpy as np
import pytest
import torch
from ptx import AccessError, Kernel, Memory, Sectors, Touched
from ptx.snippets import PLACE, THREAD, array_type, evaluate, module, run, words

INTEGERS = ("s16", "u16", "s32", "u32", "s64", "u64")
FLOATS = {  # type -> bits of a significand, exponent of the lowest bit of all, largest number
    "f16": (11, -24, 65504.0),
    "f32": (24, -149, float.fromhex("0x1.fffffep127")),
    "f64": (53, -1074, float.fromhex("0x1.fffffffffffffp1023")),
}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": 0x7FF8000000000000}
SPECIAL = [0.0, -0.0, 1.0, -1.5, 2.5, 0.1, math.inf, -math.inf, math.nan, 1e-45, -1e-40, 6e-8, 3e-5, 65504.0, -3.4e38]
CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]
FIRST_ADDRESS, SECOND_ADDRESS = 0x7F00_0000_0000, 0x7F00_0000_1100  # of buffers of up to 256 bytes, with a gap of 4096


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


@pytest.mark.parametrize("type", FLOATS)
def test_float_arithmetic_is_rounded_once(type):
    truths = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
    if type != "f16":
        truths |= {"div.rn": operator.truediv, "rcp.rn": lambda a: 1 / a, "sqrt.rn": root}
    for name, truth in truths.items():
        unary = name in ("rcp.rn", "sqrt.rn")
        expect_float(f"{name}.{type} d, a{'' if unary else ', b'};", type, once(truth, type), *floats(type, 2 - unary))


@pytest.mark.parametrize("type", FLOATS)
def test_fma_is_rounded_once(type):
    a, b, c = floats(type, 3)
    c[-500:-250] = -(a[-500:-250] * b[-500:-250])  # what the product's own rounding took away is left
    expect_float(f"fma.rn.{type} d, a, b, c;", type, once(lambda a, b, c: a * b + c, type), a, b, c)


def test_fma_next_to_a_tie():
    """The sums lie so near the middle of two float32 that float64 has no number between."""
    one = 1 + 2**-12  # its square has a last bit of 2**-24, half of float32's
    a, b, c = combined([one, -one], [one, -one], [0, 2**-80, -(2**-80), 2**-126, 1e-45], types=("f4", "f4", "f4"))
    expect_float("fma.rn.f32 d, a, b, c;", "f32", once(lambda a, b, c: a * b + c, "f32"), a, b, c)


def test_the_nan_of_a_gpu():
    infinite = np.array([math.inf, -math.inf])
    for type, nan in {"f16": 0x7FFF, "f32": 0x7FFFFFFF}.items():
        x = infinite.astype(array_type(type))
        zero = np.zeros_like(x)
        for code in "sub{} d, a, a;", "mul{} d, a, b;", "fma.rn{} d, a, b, a;":
            assert evaluate(code.format(f".{type}"), f"b{width(type)}", x, zero).tolist() == [nan, nan]


@pytest.mark.parametrize("narrow", ["f16", "bf16"])
def test_mixed_precision(narrow):
    """Blackwell's arithmetic of 16-bit operands in float32."""
    random = np.random.default_rng(0)
    bits, c = random.integers(0, 2**16, 3000, np.uint16), random.standard_normal(3000).astype(np.float32)
    a = bits.view(np.float16).astype(np.float32) if narrow == "f16" else (bits.astype(np.uint32) << 16).view(np.float32)
    bits, a, c = (each[np.isfinite(a)] for each in (bits, a, c))
    for name, truth in {"add": operator.add, "sub": operator.sub, "fma": lambda a, c: a * a + c}.items():
        got = evaluate(f"{name}.rn.f32.{narrow} d, a, {'a, b' if name == 'fma' else 'b'};", "f32", bits, c)
        want = [once(truth, "f32")(*pair) for pair in zip(a.tolist(), c.tolist(), strict=True)]
        assert got.tolist() == want


def test_ftz_flushes_what_comes_in_and_what_goes_out():
    def flushed(truth: Callable[..., float]) -> Callable[..., float]:
        def zero(value: float) -> float:
            return math.copysign(0, value) if abs(value) < 2.0**-126 else value

        return lambda *values: zero(once(truth, "f32")(*map(zero, values)))

    a, b, c = floats("f32", 3)
    expect_float("add.ftz.f32 d, a, b;", "f32", flushed(operator.add), a, b)
    expect_float("mul.ftz.f32 d, a, b;", "f32", flushed(operator.mul), a, b)
    expect_float("fma.rn.ftz.f32 d, a, b, c;", "f32", flushed(lambda a, b, c: a * b + c), a, b, c)
    subnormal = np.array([1e-40, -1e-40], np.float32)
    assert evaluate("setp.eq.ftz.f32 d, a, 0f00000000;", "pred", subnormal).all()
    assert not evaluate("setp.eq.f32 d, a, 0f00000000;", "pred", subnormal).any()
    assert evaluate("cvt.rpi.ftz.s32.f32 d, a;", "s32", subnormal).tolist() == [0, 0]


@pytest.mark.parametrize("type", FLOATS)
def test_signs_and_extremes_of_floats(type):
    def least(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return b if math.isnan(a) else a
        return min(a, b, key=lambda each: (each, math.copysign(1, each)))

    expect_float(f"min.{type} d, a, b;", type, least, *floats(type))
    expect_float(f"max.{type} d, a, b;", type, lambda a, b: -least(-a, -b), *floats(type))
    expect_float(f"neg.{type} d, a;", type, operator.neg, *floats(type, 1))
    expect_float(f"abs.{type} d, a;", type, abs, *floats(type, 1))
    if type != "f16":
        expect_float(f"copysign.{type} d, a, b;", type, lambda a, b: math.copysign(b, a), *floats(type))


APPROXIMATE = {
    "rcp": lambda a: 1 / a,
    "sqrt": math.sqrt,
    "rsqrt": lambda a: 1 / math.sqrt(a),
    "ex2": lambda a: 2**a,
    "lg2": math.log2,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
}


@pytest.mark.parametrize("name", APPROXIMATE)
def test_approximate_functions(name):
    x = np.random.default_rng(0).uniform(0.01, 50, 1000).astype(np.float32)
    for kind in ["approx"] if name == "tanh" else ["approx", "approx.ftz"]:
        got = evaluate(f"{name}.{kind}.f32 d, a;", "f32", x)
        np.testing.assert_allclose(got, [APPROXIMATE[name](a) for a in x.tolist()], rtol=2**-22)
    quotients = [evaluate(f"div.{kind}.f32 d, a, b;", "f32", x, x[::-1].copy()) for kind in ("approx", "full")]
    np.testing.assert_allclose(quotients, [x / x[::-1]] * 2, rtol=2**-22)


COMPARISONS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


@pytest.mark.parametrize("type", INTEGERS)
def test_comparisons_of_integers(type):
    unsigned = {"lo": operator.lt, "ls": operator.le, "hi": operator.gt, "hs": operator.ge} if type[0] == "u" else {}
    for name, truth in (COMPARISONS | unsigned).items():
        expect(f"setp.{name}.{type} d, a, b;", "pred", truth, *integers(type))


@pytest.mark.parametrize("type", FLOATS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_floats(name, type):
    def no_nan(a: float, b: float) -> bool:
        return a == a and b == b

    truth = COMPARISONS[name]
    expect(f"setp.{name}.{type} d, a, b;", "pred", lambda a, b: truth(a, b) and no_nan(a, b), *floats(type))
    expect(f"setp.{name}u.{type} d, a, b;", "pred", lambda a, b: truth(a, b) or not no_nan(a, b), *floats(type))
    expect(f"setp.num.{type} d, a, b;", "pred", no_nan, *floats(type))
    expect(f"setp.nan.{type} d, a, b;", "pred", lambda a, b: not no_nan(a, b), *floats(type))


@pytest.mark.parametrize(("name", "truth"), [("and", operator.and_), ("or", operator.or_), ("xor", operator.xor)])
def test_comparisons_combined_with_a_predicate(name, truth):
    """The second result is the combination of the opposite, not the opposite of the combination."""
    a, b, c = combined([1, 2], [1, 2], [False, True], types=("i4", "i4", "bool"))
    expect(f"setp.lt.{name}.s32 d, a, b, c;", "pred", lambda a, b, c: truth(a < b, c), a, b, c)
    expect(f"setp.lt.{name}.s32 d|_, a, b, c;", "pred", lambda a, b, c: truth(a < b, c), a, b, c)
    expect(f"setp.lt.{name}.s32 q|d, a, b, c;", "pred", lambda a, b, c: truth(a >= b, c), a, b, c)
    expect("setp.lt.s32 q|d, a, b;", "pred", operator.ge, a, b)


@pytest.mark.parametrize("type", ["b16", "u32", "s64", "f32", "f64"])
def test_moves_and_choices_keep_all_bits(type):
    """Those of a signalling NaN too."""
    bits = f"b{width(type)}"
    a = np.array([2 ** width(type) - 1, 0x7F800001 % 2 ** width(type), 5], array_type(bits))
    expect(
        f"selp.{type} d, a, b, c;", bits, lambda a, b, c: a if c else b, a, a[::-1].copy(), np.array([1, 0, 1], bool)
    )
    expect(f"mov.{type} d, a;", bits, lambda a: a, a)


@pytest.mark.parametrize("source", ["s8", "u8", *INTEGERS])
def test_conversions_of_integers(source):
    """A register may be wider than the source, whose lower bits count, and than the result, which is extended."""
    for to in "s8", "u8", *INTEGERS:

        def truth(a: int, to: str = to) -> int:
            return int(np.array(a, np.uint64).astype(array_type(source)).astype(array_type(to)))

        expect(f"cvt.{to}.{source} d, a;", f"b{max(width(to), 16)}", truth, *integers("u64", 1))


@pytest.mark.parametrize("source", INTEGERS)
def test_integers_to_floats(source):
    more = np.array([2**24 + 1, 2**24 + 3, 65519, 65520, 2**53 + 1, 2**63 + 1025], np.uint64).astype(array_type(source))
    a = np.concatenate([*integers(source, 1), more])
    for type in FLOATS:
        expect_float(f"cvt.rn.{type}.{source} d, a;", type, once(lambda a: a, type), a)


ROUNDINGS = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("source", FLOATS)
def test_floats_to_integers_and_whole_floats(source, rounding):
    edges = [0.5, -0.5, 1.5, -2.5, 0.99999994, 2.0**31, 2.0**31 - 1, -(2.0**31), 2.0**63, -(2.0**63), 2.0**64, 1e30]
    with np.errstate(over="ignore"):
        a = np.concatenate([*floats(source, 1), np.array(edges).astype(array_type(source))])

    def whole(value: float) -> float:
        return ROUNDINGS[rounding](value) if math.isfinite(value) else value

    for to in INTEGERS:
        nan = 2 ** (width(to) - 1) if "64" in source + to else 0
        low, high = np.iinfo(array_type(to)).min, np.iinfo(array_type(to)).max

        def truth(value: float, nan: int = nan, low: int = low, high: int = high) -> int:
            return nan if math.isnan(value) else int(max(low, min(high, whole(value))))

        expect(f"cvt.{rounding}.{to}.{source} d, a;", to, truth, a)
    expect_float(f"cvt.{rounding}.{source}.{source} d, a;", source, lambda value: math.copysign(whole(value), value), a)


@pytest.mark.parametrize(("type", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_float32_to_16_bits_as_torch_rounds(type, dtype):
    """Every upper half, and lower halves on both sides of ties."""
    lower = np.array([0, 1, 0x1000, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    a = np.add.outer(np.arange(2**16, dtype=np.uint32) << 16, lower).ravel()
    x = torch.from_numpy(a.view(np.float32))
    want = np.where(x.isnan().numpy(), NAN[type], x.to(dtype).view(torch.int16).numpy().view(np.uint16))
    assert np.array_equal(evaluate(f"cvt.rn.{type}.f32 d, a;", "b16", a), want)
    packed = evaluate(f"cvt.rn.{type}x2.f32 d, a, b;", "b32", a, np.roll(a, 12345))
    assert np.array_equal(packed, want.astype(np.uint32) << 16 | np.roll(want, 12345))


def test_16_bits_to_wider_floats():
    a = np.arange(2**16, dtype=np.uint16)
    expect("cvt.f32.f16 d, a;", "b32", lambda a: raw(*struct.unpack("<e", struct.pack("<H", a)), "f32"), a)
    expect("cvt.f32.bf16 d, a;", "b32", lambda a: NAN["f32"] if a & 0x7FFF > 0x7F80 else a << 16, a)
    number = a[(a & 0x7FFF) <= 0x7C00]
    expect("cvt.f64.f16 d, a;", "b64", lambda a: raw(*struct.unpack("<e", struct.pack("<H", a)), "f64"), number)


def test_float64_to_and_from_others():
    half, single = 2**-11, 2**-24  # half of the last bits of 1
    ties = [
        1 + half,
        1 + half + 2**-40,
        1 + half - 2**-40,
        1 + 3 * half,
        1 + single,
        1 + 3 * single,
        1 + single + 2**-50,
    ]
    a = np.concatenate([*floats("f64", 1), ties, [2**-150, 2**-150 * (1 + 2**-40), 3.4028236e38, 65519.9, 65520]])
    expect_float("cvt.rn.f32.f64 d, a;", "f32", once(lambda a: a, "f32"), a)
    expect_float("cvt.rn.f16.f64 d, a;", "f16", once(lambda a: a, "f16"), a)
    expect_float("cvt.f64.f32 d, a;", "f64", lambda a: a, *floats("f32", 1))


def test_immediate_operands():
    a = np.array([3], np.int32)
    assert evaluate("add.s32 d, a, -5;", "s32", a) == -2
    assert evaluate("add.u32 d, a, 4294967295U;", "u32", a) == 2
    assert evaluate("mov.b64 d, 0; or.b64 d, d, -4294967296;", "u64", a) == 2**64 - 2**32
    assert evaluate("xor.b32 d, a, 0xFFFFFFFF;", "u32", a) == 2**32 - 4
    assert evaluate("cvt.rn.f32.s32 r1, a; mul.f32 d, r1, 0f3FC00000;", "f32", a) == 4.5
    assert evaluate("cvt.rn.f64.s32 w1, a; add.f64 d, w1, 0dBFE0000000000000;", "f64", a) == 2.5
    with pytest.raises(ValueError, match="0x10000 does not fit in u16"):
        evaluate("cvt.u16.u32 h1, a; add.u16 d, h1, 65536;", "u16", a)


def test_moves_pack_and_unpack():
    a = np.array([0x1122334455667788], np.uint64)
    assert evaluate("mov.b64 {r1, r2}, a; mov.b64 d, {r2, r1};", "b64", a) == 0x5566778811223344
    assert evaluate("mov.b64 {h0, h1, h2, h3}, a; mov.b32 d, {h3, h0};", "b32", a) == 0x77881122
    assert evaluate("mov.b64 {_, d}, a;", "b32", a) == 0x11223344
    assert evaluate("mov.b64 {d, _}, a;", "b32", a) == 0x55667788


def test_special_registers():
    grid, block = (3, 2, 2), (5, 3, 4)
    names = [f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"] + ["laneid"]
    out = np.zeros((*grid[::-1], *block[::-1], len(names)), np.uint32)
    code = "mov.u32 r0, 0;"
    for name, size in zip(("ctaid.z", "ctaid.y", "ctaid.x", "tid.z", "tid.y", "tid.x"), out.shape, strict=False):
        code += f"mov.u32 r1, %{name}; mad.lo.u32 r0, r0, {size}, r1;"
    code += f"ld.param.u64 w0, [a0]; mad.wide.u32 w0, r0, {4 * len(names)}, w0;"
    code += "".join(f"mov.u32 r1, %{name}; st.global.u32 [w0+{4 * i}], r1;" for i, name in enumerate(names))
    run(code, out, grid=grid, block=block)
    for z, y, x, c, b, a in np.ndindex(out.shape[:-1]):
        thread = (c * 3 + b) * 5 + a
        assert out[z, y, x, c, b, a].tolist() == [a, b, c, *block, x, y, z, *grid, thread % 32]


def test_threads_part_and_meet_again():
    """Each path is taken by the lanes that it is for, and after them all lanes of a warp are active together."""
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
        activemask.b32 r5; setp.eq.u32 p, r5, 0xFFFFFFFF; @!p mov.u32 r4, 0;
    """
    assert words(code, block=64) == [300 + (i >= 60) if i % 2 == 0 else 100 if i < 9 else 200 for i in range(64)]
    masks = [0x55555555 if i % 2 == 0 else 0xAA if i < 9 else 0xAAAAAAAA - 0xAA * (i < 32) for i in range(64)]
    assert words(code + "mov.u32 r4, r3;", block=64) == masks
    _, statistics = run(f"{PLACE} {code} st.global.u32 [w1], r4;", np.zeros(64, np.uint32), block=64)
    assert statistics.store == Sectors(8, 8)


COLLATZ = """
    add.u32 r5, r0, 1; mov.u32 r4, 0;
LOOP:
    setp.eq.u32 p, r5, 1; @p bra DONE;
    and.b32 r6, r5, 1; shr.u32 r7, r5, 1; setp.eq.u32 q, r6, 0; mad.lo.u32 r6, r5, 3, 1; selp.u32 r5, r7, r6, q;
    add.u32 r4, r4, 1; bra LOOP;
DONE:
"""


@pytest.mark.parametrize(("grid", "block"), [(1, 100), (3, 33), (7, 16), (50, 32), (100, 1)])
def test_loops_of_different_lengths(grid, block):
    def steps(n: int) -> int:
        return 0 if n == 1 else 1 + steps(n // 2 if n % 2 == 0 else 3 * n + 1)

    want = [steps(n + 1) for n in range(grid * block)]
    assert words(COLLATZ, grid, block) == want
    _, statistics = run(THREAD + COLLATZ, grid=grid, block=block)
    executed = [statistics.opcodes[name] for name in ("shr.u32", "setp.eq.u32", "bra", "ret")]
    assert executed == [sum(want), 2 * sum(want) + len(want), sum(want) + len(want), len(want)]


def test_threads_that_returned_do_nothing_more():
    out = np.full(64, 7, np.uint32)
    run(f"{PLACE} setp.lt.u32 p, r0, 5; @p ret; setp.gt.u32 p, r0, 60; @p exit; st.global.u32 [w1], r0;", out, block=64)
    assert out.tolist() == [i if 5 <= i <= 60 else 7 for i in range(64)]


def test_registers_hold_anything_before_they_are_written():
    assert words("setp.ge.u32 p, r0, 3; @p mov.u32 r4, 9;") == [0xA5A5A5A5] * 3 + [9] * 29


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("segment", [0, 16, 24, 30, 31])
def test_shuffles(mode, segment):
    """As NVIDIA's manual has them: lane by lane."""
    c = segment << 8 | (0 if mode == "up" else 31)
    for b in 0, 1, 3, 8, 16, 31, 33:
        offset, clamp, want = b & 31, c & 31, []
        for lane in range(32):
            first, last = lane & segment, lane & segment | clamp & ~segment
            places = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset}
            place = places.get(mode, first | offset & ~segment)
            inside = place >= last if mode == "up" else place <= last
            want.append(((place if inside else lane) ** 2, inside))
        code = f"mov.u32 r5, %laneid; mul.lo.u32 r5, r5, r5; shfl.sync.{mode}.b32 r4|p, r5, {b}, {c}, -1;"
        assert words(code, block=96) == 3 * [value for value, _ in want], b
        assert words(f"{code} selp.u32 r4, 1, 0, p;") == [inside for _, inside in want], b


def test_shuffles_with_lanes_that_are_not_there():
    shuffle, ten = "shfl.sync.bfly.b32 r4, r0, 1, 31, {};", [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    assert words(shuffle.format(-1), block=10) == ten  # a GPU waits for no lane that never was
    out = np.zeros(32, np.uint32)
    run(f"{PLACE} setp.gt.u32 p, r0, 9; @p ret; {shuffle.format(-1)} st.global.u32 [w1], r4;", out)
    assert out.tolist() == ten + [0] * 22  # nor for one that has returned
    apart = f"setp.gt.u32 p, r0, 9; @p bra ON; {shuffle} ON: mov.u32 r5, 0;"
    assert words(apart.format(0x3FF))[:10] == ten
    with pytest.raises(RuntimeError, match="member mask names lanes that are elsewhere"):
        words(apart.format(-1))
    with pytest.raises(RuntimeError, match="not in its own member mask"):
        words(shuffle.format(0xFFFF))
    with pytest.raises(RuntimeError, match="a lane that is not active, in `shfl.sync.bfly.b32 r4, r0, 1, 31, -1`"):
        words(shuffle.format(-1), block=9)
    with pytest.raises(RuntimeError, match="a lane that is not active"):
        words(apart.replace("bfly", "idx").replace("r0, 1,", "r0, 20,").format(0x3FF))


def test_votes():
    assert words("setp.lt.u32 q, r0, 5; vote.sync.ballot.b32 r4, q, -1;", block=64) == [31] * 32 + [0] * 32
    votes = "setp.lt.u32 q, r0, {}; vote.sync.{}.pred p, q, -1; selp.u32 r4, 1, 0, p;"
    for limit, some, every in (0, 0, 0), (1, 1, 0), (31, 1, 0), (32, 1, 1):
        assert words(votes.format(limit, "any")) == [some] * 32
        assert words(votes.format(limit, "all")) == [every] * 32
    half = (
        "setp.lt.u32 p, r0, 16; selp.b32 r5, 0xFFFF, 0xFFFF0000, p; vote.sync.all.pred q, p, r5; selp.u32 r4, 1, 0, q;"
    )
    assert words(half) == [1] * 16 + [0] * 16


@pytest.mark.parametrize(
    ("type", "format"), [*{"u8": "B", "s8": "b", "u16": "H", "s16": "h", "b32": "I", "s32": "i"}.items()]
)
def test_loads_extend_and_stores_cut(type, format):
    x, y = np.random.default_rng(0).integers(0, 256, 64, np.uint8), np.zeros(2, np.uint64)
    code = f"ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1]; ld.global.{type} w2, [w0+8];"
    memory, _ = run(f"{code} st.global.b64 [w1], w2; st.global.{type} [w1+8], w2;", x, y, block=1)
    (want,) = struct.unpack_from(format, x, 8)
    assert int(y[0]) == want % 2**64
    assert y[1:].tobytes() == struct.pack(format, want).ljust(8, b"\0")
    assert memory.touched(FIRST_ADDRESS).loaded == struct.calcsize(format)


@pytest.mark.parametrize("vector", ["v2.u8", "v4.u8", "v2.b16", "v4.f32", "v4.b32", "v2.f64", "v8.b32", "v4.b64"])
def test_vectors(vector):
    """With hints, which change nothing; each thread's words come back in reverse order."""
    count, bits = int(vector[1]), width(vector[3:])
    names = [f"x{n}" for n in range(count)]
    x = np.random.default_rng(0).integers(0, 2**16, (8, count), np.uint64).astype(f"u{bits // 8}")
    y = np.zeros_like(x)
    code = f"""{THREAD} .reg .b{max(16, bits)} {", ".join(names)}; ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1];
        mad.wide.u32 w0, r0, {x[0].nbytes}, w0; mad.wide.u32 w1, r0, {x[0].nbytes}, w1; add.s64 w1, w1, 64;
        ld.global.nc.L1::no_allocate.L2::128B.{vector} {{{", ".join(names)}}}, [w0];
        st.global.cs.{vector} [w1+-64], {{{", ".join(reversed(names))}}};"""
    memory, _ = run(code, x, y, block=8)
    assert np.array_equal(y, x[:, ::-1])
    assert memory.touched(FIRST_ADDRESS) == (x.nbytes, x.nbytes, 0, 0)


LOAD = "ld.param.u64 w0, [a0]; ld.global.v4.u32 {r1, r2, r3, r4}, [w0];"
STORE = "ld.param.u64 w0, [a0]; st.global.u16 [w0+2], h0;"


@pytest.mark.parametrize("distance", [-16, -2, 64, 4096, 4352 + 64, -(2**46), 2**62, -FIRST_ADDRESS])
def test_accesses_outside_every_buffer(distance):
    memory, at = Memory(), FIRST_ADDRESS + distance
    assert [memory.add(np.zeros(16, np.float32)) for _ in range(2)] == [FIRST_ADDRESS, SECOND_ADDRESS]
    if at % 16 == 0:
        with pytest.raises(
            AccessError, match=f"^load of 16 bytes at {at:#x} is not inside a buffer, in `ld.global.v4.u32"
        ):
            run(LOAD, at, memory=memory)
    with pytest.raises(AccessError, match=f"^store of 2 bytes at {at:#x} is not inside a buffer, in `st.global.u16"):
        run(STORE, at - 2, memory=memory)
    run(LOAD, FIRST_ADDRESS + 48, memory=memory)
    run(STORE, SECOND_ADDRESS + 60, memory=memory)


def test_accesses_that_begin_in_a_buffer_and_end_outside():
    memory = Memory()
    memory.add(np.zeros(13, np.float32))
    run(LOAD, FIRST_ADDRESS + 32, memory=memory)
    with pytest.raises(AccessError, match=f"load of 16 bytes at {FIRST_ADDRESS + 48:#x} is not inside"):
        run(LOAD, FIRST_ADDRESS + 48, memory=memory)
    with pytest.raises(AccessError, match="at 0x0 is not inside"):
        run(LOAD, 0)  # no buffer at all


@pytest.mark.parametrize(("code", "shift"), [(LOAD, 8), (LOAD, 4), (LOAD, 1), (STORE, 1), (STORE, 33)])
def test_misaligned_accesses(code, shift):
    memory = Memory()
    at = memory.add(np.zeros(16, np.float32)) + shift
    access = f"load of 16 bytes at {at:#x}" if code is LOAD else f"store of 2 bytes at {at + 2:#x}"
    with pytest.raises(AccessError, match=f"^{access} is misaligned, in `"):
        run(code, at, memory=memory)


def test_stores_to_a_read_only_buffer():
    memory = Memory()
    address = memory.add(np.zeros(16, np.float32), readonly=True)
    run(LOAD, address, memory=memory)
    with pytest.raises(AccessError, match=f"^store of 2 bytes at {address + 2:#x} is in a read-only buffer"):
        run(STORE, address, memory=memory)
    assert memory.touched(address).stored == 0


def test_one_wrong_thread_of_many_is_found():
    with pytest.raises(AccessError, match=f"store of 4 bytes at {FIRST_ADDRESS + 4 * 99:#x} is not inside"):
        run(f"{PLACE} st.global.u32 [w1], r0;", np.zeros(99, np.uint32), block=100)


def test_buffers_may_not_overlap_and_have_to_be_contiguous():
    memory, array = Memory(), np.zeros(16, np.float32)
    assert memory.add(array, address=0x1004) == 0x1004
    for address in 0x1003, 0x1004, 0x1004 + 63, 0x1004 - 63:
        with pytest.raises(ValueError, match=f"at {address:#x} overlaps the one at 0x1004"):
            memory.add(array, address=address)
    assert [memory.add(array, address=at) for at in (0x1004 + 64, 0x1004 - 64)] == [0x1044, 0xFC4]
    with pytest.raises(ValueError, match="contiguous"):
        memory.add(array[::2])


def test_a_buffer_at_its_real_address():
    """As device memory is seen where host memory stands in for it, here between two multiples of 16 bytes."""
    storage, memory = np.zeros(100, np.uint8), Memory()
    start = -storage.ctypes.data % 16 + 4
    x = storage[start : start + 60].view(np.uint32)
    x[:] = np.arange(15)
    address = memory.add(x, address=x.ctypes.data)
    run(f"{LOAD} st.global.u32 [w0], r4;", address + 12, block=1, memory=memory)
    assert x.tolist() == [0, 1, 2, 6, *range(4, 15)]
    assert memory.touched(address) == (16, 16, 4, 4)
    run(LOAD, address + 44, memory=memory)
    for outside in address - 4, address + 60:
        with pytest.raises(AccessError, match="not inside"):
            run(LOAD, outside, memory=memory)


def test_bytes_touched():
    """One double by all threads, every fourth float, and the upper half of each."""
    x, y = np.zeros(32, np.float64), np.zeros(16, np.float32)
    code = f"""{PLACE} ld.global.f64 w4, [w0]; mad.wide.u32 w2, r0, 16, w0; ld.global.b32 r4, [w2];
        ld.param.u64 w3, [a1]; mad.wide.u32 w3, r0, 4, w3; ld.global.b32 r5, [w3]; st.global.u16 [w3+2], h0;"""
    memory, _ = run(code, x, y, block=16)
    assert memory.touched(FIRST_ADDRESS) == Touched(16 * 8 + 16 * 4, 8 + 15 * 4, 0, 0)
    assert memory.touched(SECOND_ADDRESS) == (16 * 4, 16 * 4, 16 * 2, 16 * 2)
    run(PLACE.replace("w1, r0", "w1, 0") + "st.global.u32 [w1], 0;", SECOND_ADDRESS, memory=memory)
    assert memory.touched(SECOND_ADDRESS) == (16 * 4, 16 * 4, 16 * 2 + 32 * 4, 16 * 2 + 2)


def test_threads_that_access_different_buffers():
    x, y = np.arange(32, dtype=np.int32), np.arange(100, 132, dtype=np.int32)
    code = f"""{THREAD} and.b32 r1, r0, 1; setp.eq.u32 p, r1, 0; ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1];
        selp.b64 w2, w0, w1, p; mad.wide.u32 w2, r0, 4, w2;
        ld.global.u32 r4, [w2]; neg.s32 r4, r4; st.global.u32 [w2], r4;"""
    memory, _ = run(code, x, y)
    assert x.tolist() == [i if i % 2 else -i for i in range(32)]
    assert y.tolist() == [-100 - i if i % 2 else 100 + i for i in range(32)]
    assert memory.touched(FIRST_ADDRESS) == memory.touched(SECOND_ADDRESS) == (64, 64, 64, 64)


def sectors(size: int, addresses: list[int], block: int) -> Sectors:
    """Count sectors warp by warp, with sets."""
    blocks = [addresses[i : i + block] for i in range(0, len(addresses), block)]
    warps = [threads[i : i + 32] for threads in blocks for i in range(0, block, 32)]
    touched = [len({address // 32 for address in warp}) for warp in warps]
    return Sectors(sum(touched), sum(-(-len(warp) * size // 32) for warp in warps))


PLACES = {  # of a thread's word, in words
    "contiguous": lambda i: i,
    "reversed": lambda i: 999 - i,
    "every other": lambda i: 2 * i,
    "far apart": lambda i: 64 * i,
    "the same": lambda i: 0,
    "odd and even": lambda i: i ^ 1,
    "scattered": lambda i: i * 7919 % 1021,
}


@pytest.mark.parametrize("vector", ["u8", "u16", "u32", "v4.u32", "v4.b64"])
@pytest.mark.parametrize("places", PLACES)
def test_sectors(places, vector):
    names = "{w4, w5, w6, w7}" if vector.startswith("v4") else "w4"
    size, (grid, block) = (4 if "v4" in vector else 1) * width(vector.removeprefix("v4.")) // 8, (4, 72)
    index = np.array([PLACES[places](i) for i in range(grid * block)], np.uint32)
    code = f"""{PLACE} ld.global.u32 r4, [w1]; ld.param.u64 w1, [a1]; mad.wide.u32 w1, r4, {size}, w1;
        st.global.{vector} [w1], {names};"""
    memory, x = Memory(), np.zeros((int(index.max()) + 1) * size, np.uint8)
    start = memory.add(x, address=2**63)
    _, statistics = run(code, index, start, grid=grid, block=block, memory=memory)
    assert statistics.store == sectors(size, [start + size * i for i in index.tolist()], block)
    assert statistics.load == sectors(4, [FIRST_ADDRESS + 4 * i for i in range(grid * block)], block)


@pytest.mark.parametrize(("thread", "second", "want"), [(32, 16, Sectors(128, 64)), (16, 1024, Sectors(64, 64))])
def test_sectors_tell_strided_from_contiguous(thread, second, want):
    """Eight floats a thread: side by side in two loads, or every load of a warp in one piece."""
    x, load = np.zeros(512, np.float32), "ld.global.v4.f32 {r1, r2, r3, r4}, "
    code = f"mov.u32 r0, %tid.x; ld.param.u64 w0, [a0]; mad.wide.u32 w1, r0, {thread}, w0; {load} [w1];"
    code += f"{load} [w1+{second}];"
    memory, statistics = run(code, x, block=64)
    assert (statistics.load, statistics.store) == (want, Sectors(0, 0))
    assert memory.touched(FIRST_ADDRESS) == (x.nbytes, x.nbytes, 0, 0)


@pytest.mark.parametrize("first", [2**31 // 512 - 3, 2**31 - 8])
def test_some_blocks_of_a_huge_grid(first):
    """Elements beyond 2**31 and 2**40 of an array, of which no more than the blocks' part is there."""
    part = np.zeros(512 * 7, np.uint64)
    code = """mov.u32 r1, %ctaid.x; mov.u32 r2, %tid.x; cvt.u64.u32 w1, r2; mad.wide.u32 w1, r1, 512, w1;
        ld.param.u64 w0, [a0]; shl.b64 w2, w1, 3; add.s64 w2, w0, w2; st.global.u64 [w2], w1;"""
    memory = Memory()
    address = memory.add(part)
    blocks = range(first, first + 7)
    _, statistics = run(code, address - 8 * 512 * first, grid=2**31 - 1, block=512, memory=memory, blocks=blocks)
    assert part.tolist() == list(range(512 * first, 512 * (first + 7)))
    assert memory.touched(address) == (0, 0, part.nbytes, part.nbytes)
    assert statistics.opcodes["st.global.u64"] == part.size


def test_blocks_by_number():
    out = np.zeros(6 * 32, np.uint32)
    code = f"""{THREAD} mov.u32 r4, %ctaid.y; mad.lo.u32 r4, r4, 3, r1; mad.lo.u32 r0, r4, r2, r3;
        ld.param.u64 w0, [a0]; mad.wide.u32 w1, r0, 4, w0; add.u32 r4, r4, 1; st.global.u32 [w1], r4;"""
    memory, _ = run(code, out, grid=(3, 2), blocks=[4, 1])
    assert out.reshape(6, 32).tolist() == [[n] * 32 for n in (0, 2, 0, 0, 5, 0)]
    for blocks in [6], range(-1, 3):
        with pytest.raises(ValueError, match=r"a grid of \(3, 2, 1\) has no blocks \[(6|-1)\]"):
            run(code, FIRST_ADDRESS, grid=(3, 2), memory=memory, blocks=blocks)


IMPOSSIBLE = [(2**31, 1), ((1, 65536), 1), (0, 1), (1, 1025), (1, 0), (1, (64, 64)), (1, (1, 1, 65))]


@pytest.mark.parametrize(("grid", "block"), IMPOSSIBLE)
def test_launches_that_no_gpu_takes(grid, block):
    with pytest.raises(ValueError, match="no GPU runs"):
        run("", grid=grid, block=block)


def test_arguments():
    """Integers as signed or unsigned ones, floats, and parts of a parameter."""
    loads = {
        "u8 a": 255,
        "s16 b": -2,
        "u32 c": -1,
        "u64 d": 0x1122334455667788,
        "f32 e": 0.1,
        "f64 f": 0.1,
        "b64 g": -(2**63),
    }
    code = "ld.param.u64 w0, [out];"
    for n, name in enumerate(loads):
        code += f"ld.param.{name[:-2]} w1, [{name[-1]}]; st.global.u64 [w0+{8 * n}], w1;"
    code += "ld.param.b32 w1, [d+4]; st.global.u64 [w0+56], w1; ld.param.s8 w1, [a]; st.global.u64 [w0+64], w1;"
    kernel = Kernel(
        module(code, *(f".{name}" for name in loads), ".u64 .ptr .align 1 out", ".u64 .ptr .global .align 16 h")
    )
    assert kernel.name == "kernel"
    assert kernel.params == [*(tuple(name.split()) for name in loads), ("u64", "out"), ("u64", "h")]
    out, memory = np.zeros(9, np.uint64), Memory()
    kernel(1, 1, [*loads.values(), memory.add(out), 0], memory)
    bits = raw(0.1, "f32"), raw(0.1, "f64")
    assert out.tolist() == [255, 2**64 - 2, 2**32 - 1, loads["u64 d"], *bits, 2**63, 0x11223344, 2**64 - 1]
    for wrong, error in (256, OverflowError), (-129, OverflowError), (1.0, TypeError):
        with pytest.raises(error):
            kernel(1, 1, [wrong, 0, 0, 0, 0, 0, 0, 0, 0], memory)
    with pytest.raises(ValueError, match="shorter"):
        kernel(1, 1, [0, 0], memory)


def test_the_text_of_a_module():
    """Comments, directives, scopes that declare a name again, labels before code, and the choice of a kernel."""
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
    two = module("ret;", head=".maxntid 32, 1, 1 .minnctapersm 2") + module("trap;", ".u64 x").replace(
        "kernel(", "other$1("
    )
    assert Kernel(two).name == Kernel(two, "kernel").name == "kernel"
    with pytest.raises(NotImplementedError, match="trap"):
        Kernel(two, "other$1")
    with pytest.raises(ValueError, match="no kernel third"):
        Kernel(two, "third")
    with pytest.raises(ValueError, match="cannot read"):
        Kernel(two[: two.index("ret;")])


UNKNOWN = """
bar.sync 0
atom.global.add.u32 r1, [w0], 1
ld.shared.u32 r1, [w0]
ld.volatile.global.u32 r1, [w0]
ld.u32 r1, [w0]
ld.global.u32 r1, [w0+w1]
st.local.u32 [w0], r1
add.sat.s32 r1, r2, r3
add.cc.u32 r1, r2, r3
add.rz.f32 r1, r2, r3
add.f16x2 r1, r2, r3
mul.f32x2 w1, w2, w3
fma.rn.bf16 h1, h2, h3, h0
mad.hi.sat.s32 r1, r2, r3, r4
mul24.lo.u32 r1, r2, r3
min.NaN.f32 r1, r2, r3
div.approx.f64 w1, w2, w3
cvt.sat.u8.s32 h1, r1
cvt.rz.f32.f64 r1, w1
cvt.rn.relu.f16x2.f32 r1, r2, r3
prmt.b32.f4e r1, r2, r3, r4
lop3.or.b32 r1|p, r2, r3, r4, 1, q
shfl.bfly.b32 r1, r2, 1, 31
setp.eq.and.f16x2 p|q, r1, r2, t
selp.b32 r1, r2, r3, !p
mov.u64 w1, %clock64
mov.u64 w1, symbol
mov.f32 r1, 1.5
brx.idx r1, L
call.uni foo, (r1)
@!nothing ret
.shared .align 4 .b8 s[4]
.param .b64 x
trap
"""


@pytest.mark.parametrize("code", UNKNOWN.strip().splitlines())
def test_what_is_unknown_is_named(code):
    with pytest.raises(NotImplementedError) as caught:
        run(f"{code};")
    assert code in str(caught.value)


@pytest.mark.parametrize("parameters", [[".align 8 .b8 x[16]"], [".u64 x", ".b8 y[4]"], ["u32 x"]])
def test_parameters_that_are_unknown(parameters):
    with pytest.raises(NotImplementedError, match=parameters[-1].replace("[", r"\[")):
        Kernel(module("", *parameters))


@pytest.fixture
def cuda() -> Any:
    """Import numba.cuda for its compiler, which needs no GPU."""
    pytest.importorskip("numba_cuda")
    from numba import cuda

    return cuda


def array(memory: Memory, values: np.ndarray, readonly: bool = False) -> list[int]:
    """Return what numba.cuda's kernels take for an array: no owner, its sizes, address, shape and stride."""
    return [0, 0, values.size, values.itemsize, memory.add(values, readonly=readonly), values.size, values.itemsize]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_axpy(cuda, capability):
    def axpy(x, y, n, a):
        i = cuda.grid(1)
        while i < n:
            y[i] += a * x[i]
            i += cuda.gridsize(1)

    kernel = Kernel(cuda.compile_ptx(axpy, "void(float32[::1], float32[::1], int64, float32)", cc=capability)[0])
    assert "axpy" in kernel.name
    for n in 1, 191, 192, 5001:
        x, y = np.random.default_rng(n).standard_normal((2, n + 9)).astype(np.float32)
        want = y.copy()
        want[:n] = np.float64(np.float32(0.3)) * x[:n] + y[:n]  # as by one fma: float64 has the bits for it
        memory = Memory()
        first, second = array(memory, x, readonly=True), array(memory, y)
        kernel(3, 64, [*first, *second, n, 0.3], memory)
        assert np.array_equal(y, want)
        assert memory.touched(first[4]) == (4 * n, 4 * n, 0, 0)
        assert memory.touched(second[4]) == (4 * n, 4 * n, 4 * n, 4 * n)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_philox(cuda, capability):
    u32, u64 = np.uint32, np.uint64

    def philox(words, first, n, seed):
        i = cuda.grid(1)
        while i < n:
            c0, c1, c2, c3 = u32(first + i), u32((first + i) >> 32), u32(0), u32(0)
            k0, k1 = u32(seed), u32(seed >> 32)
            for _ in range(7):
                a, b = u64(c0) * u64(0xD2511F53), u64(c2) * u64(0xCD9E8D57)
                c0, c1, c2, c3 = u32(b >> u64(32)) ^ c1 ^ k0, u32(b), u32(a >> u64(32)) ^ c3 ^ k1, u32(a)
                k0, k1 = u32(k0 + u32(0x9E3779B9)), u32(k1 + u32(0xBB67AE85))
            words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3
            i += cuda.gridsize(1)

    kernel = Kernel(cuda.compile_ptx(philox, "void(uint32[::1], int64, int64, int64)", cc=capability)[0])
    for first, n, seed in (0, 3000, -1), (2**32 - 50, 100, 0x123456789ABCDEF):
        memory, out = Memory(), np.zeros(4 * n, np.uint32)
        kernel(7, 96, [*array(memory, out), first, n, seed], memory)
        elements = np.arange(8 * first, 8 * (first + n), dtype=np.uint64)
        assert np.array_equal(out.view(np.uint16), mask_reference.draws(elements, seed % 2**64))


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
    kernel(4, 256, [each for values in (a, b, out) for each in array(memory, values)], memory)
    assert out.tolist() == [float(math.gcd(*pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
