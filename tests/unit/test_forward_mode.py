"""Tangents, alone and of gradients, against the oracle."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from exact import SEED, P, factors, fixed, integers
from oracle import assert_same_bits

from fastdrop.functional import dropout


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_tangent(make, inplace):
    x, tangent = make(integers(6, 40)), make(integers(6, 40) + 1)
    with forward_ad.dual_level():
        y = dropout(forward_ad.make_dual(x.clone(), tangent.clone()), P, inplace=inplace, seed=SEED)
        primal, got = forward_ad.unpack_dual(y)
        assert_same_bits(primal, x * factors(x.clone()))
        assert_same_bits(got, tangent * factors(x.clone()))


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_tangent_of_another_layout_than_the_primal(layout):
    x, tangent = integers(6, 40), integers(40, 6).t()
    if layout == "transposed":
        x, tangent = tangent, x
    with forward_ad.dual_level():
        got = forward_ad.unpack_dual(fixed(forward_ad.make_dual(x, tangent))).tangent
        assert_same_bits(got, tangent * factors(x))


def test_tangent_with_a_seed_from_the_generator():
    x = torch.ones(300, dtype=torch.float64)
    with forward_ad.dual_level():
        primal, tangent = forward_ad.unpack_dual(dropout(forward_ad.make_dual(x, 3 * x), P))
        assert_same_bits(tangent, 3 * primal)
        assert 0 < tangent.count_nonzero() < 300


def test_primal_without_a_tangent():
    with forward_ad.dual_level():
        primal, tangent = forward_ad.unpack_dual(fixed(integers(40)))
        assert tangent is None
        assert_same_bits(primal, integers(40) * factors(integers(40)))


def test_zero_tangent():
    x = integers(40)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch._efficientzerotensor((40,), dtype=torch.float64))
        assert_same_bits(forward_ad.unpack_dual(fixed(dual)).tangent, torch.zeros(40, dtype=torch.float64))


def test_forward_over_reverse():
    x = integers(40).requires_grad_()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        (gradient,) = torch.autograd.grad((fixed(dual) ** 3).sum(), dual, create_graph=True)
        assert_same_bits(forward_ad.unpack_dual(gradient).tangent, 6 * factors(x) ** 3 * x)


def test_reverse_over_forward():
    x = integers(40).requires_grad_()
    with forward_ad.dual_level():
        y = fixed(forward_ad.make_dual(x, torch.ones_like(x)) ** 2)
        (got,) = torch.autograd.grad(forward_ad.unpack_dual(y).tangent.sum(), x)
        assert_same_bits(got, 2 * factors(x))
