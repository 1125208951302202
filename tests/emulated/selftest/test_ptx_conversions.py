"""The PTX interpreter's conversions between types against NumPy's, torch's and exact fractions, rounded once."""

import math
import struct

import numpy as np
import pytest
import torch
from ptx.snippets import array_type, evaluate
from ptx_operands import FLOATS, INTEGERS, NAN, expect, expect_float, floats, integers, once, raw, width


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
