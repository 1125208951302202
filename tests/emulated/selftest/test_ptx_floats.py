"""The PTX interpreter's floats against exact fractions that are rounded once."""

import math
import operator
from collections.abc import Callable

import numpy as np
import pytest
from ptx.snippets import array_type, evaluate
from ptx_operands import FLOATS, combined, expect_float, floats, once, root, width


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
