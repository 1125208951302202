"""Gradients and tangents that are no plain tensors, of a forward that was plain."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exotic_tensors import Wrapper
from family_cases import CASES, IN_PLACE, grad_output_of
from torch.autograd import forward_ad
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._pytree import tree_map_only

from fastdrop import functional

SEED = 3


class Elsewhere(torch.Tensor):
    """A subclass whose own memory holds nothing but NaN, and whose elements are elsewhere."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        """Make the outer tensor."""
        return torch.Tensor._make_subclass(cls, torch.full_like(inner, torch.nan))

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Do it to the inner tensors."""
        args, kwargs = tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


KINDS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Any], torch.Tensor]]] = {  # around, inside
    "two tensors": (lambda x: TwoTensor(x, x.clone()), lambda y: y.b),
    "wrapper": (Wrapper, lambda y: y.inner),
    "elsewhere": (Elsewhere, lambda y: y.inner),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def assert_around(got: torch.Tensor, kind: str, wanted: torch.Tensor) -> None:
    """Check that a tensor is of a class, with the wanted tensor inside: gaussian_dropout's rounding may differ."""
    around, inside = KINDS[kind]
    assert type(got) is type(around(wanted))
    torch.testing.assert_close(inside(got), wanted, rtol=1e-6, atol=1e-6)


@every_kind
@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(4)
def test_gradient(name, kind):
    x = CASES[name].input().requires_grad_()
    y = CASES[name].function(x, seed=SEED)
    grad_output = grad_output_of(y)
    (wanted,) = torch.autograd.grad(y, x, grad_output, retain_graph=True)
    (got,) = torch.autograd.grad(y, x, KINDS[kind][0](grad_output))
    assert wanted.count_nonzero()
    assert_around(got, kind, wanted)


@every_kind
@pytest.mark.parametrize("name", IN_PLACE)
def test_gradient_in_place(name, kind):
    x = CASES[name].input().requires_grad_()
    y = CASES[name].function(x.clone(), inplace=True, seed=SEED)
    grad_output = grad_output_of(y)
    (wanted,) = torch.autograd.grad(y, x, grad_output, retain_graph=True)
    (got,) = torch.autograd.grad(y, x, KINDS[kind][0](grad_output))
    assert_around(got, kind, wanted)


# Torch itself neither transposes what has a wrapper for a tangent, as the case of drop_connect does at last, nor adds
# to what has two tensors, as dropout_add does.
REFUSED = {("drop_connect", "wrapper"), ("dropout_add", "two tensors")}


@pytest.mark.parametrize(("name", "kind"), [each for each in itertools.product(CASES, KINDS) if each not in REFUSED])
def test_tangent(name, kind):
    x = CASES[name].input()
    tangent = grad_output_of(x)
    with forward_ad.dual_level():
        wanted, got = (
            forward_ad.unpack_dual(CASES[name].function(forward_ad.make_dual(x, t), seed=SEED)).tangent
            for t in (tangent, KINDS[kind][0](tangent))
        )
    assert_around(got, kind, wanted)


@every_kind
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "gaussian_dropout", "dropout2d"])
def test_gradient_of_a_gradient(name, kind):
    x = CASES[name].input().requires_grad_()
    y = CASES[name].function(x, seed=SEED)
    grad_output = KINDS[kind][0](grad_output_of(y)).requires_grad_()
    (gradient,) = torch.autograd.grad(y, x, grad_output, create_graph=True)
    (got,) = torch.autograd.grad(gradient, grad_output, KINDS[kind][0](grad_output_of(x)))
    (wanted,) = torch.autograd.grad(y, x, grad_output_of(x))
    assert_around(got, kind, wanted)


@every_kind
def test_gradient_of_torchs_operators(installed, kind):
    torch.manual_seed(0)
    for call in (torch.nn.functional.dropout, torch.nn.functional.alpha_dropout, torch.nn.functional.dropout2d):
        x = torch.randn(5, 8, 4, 3, requires_grad=True)
        y = call(x, 0.4, True)
        (wanted,) = torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
        (got,) = torch.autograd.grad(y, x, KINDS[kind][0](torch.ones_like(y)))
        assert 0 < wanted.count_nonzero() < wanted.numel()
        assert_around(got, kind, wanted)


@every_kind
def test_gradient_of_the_operator(kind):
    x = CASES["dropout"].input().requires_grad_()
    y = torch.ops.fastdrop.dropout(x, 0.4, torch.tensor(SEED))
    (got,) = torch.autograd.grad(y, x, KINDS[kind][0](grad_output_of(y)))
    assert_around(got, kind, functional.dropout(grad_output_of(y), 0.4, seed=SEED))
