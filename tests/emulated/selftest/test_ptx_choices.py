"""The PTX interpreter's comparisons, choices by predicates, moves and immediate operands against Python's."""

import operator

import numpy as np
import pytest
from ptx.snippets import array_type, evaluate
from ptx_operands import FLOATS, INTEGERS, combined, expect, floats, integers, width

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
