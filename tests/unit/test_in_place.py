"""Dropout in place: what it returns and refuses, and gradients through it and through views."""

import oracle
import pytest
import torch
from exact import HARD_P, SEED, P, factors, integers
from oracle import assert_same_bits, error_of

import fastdrop
from fastdrop.functional import dropout

native = torch.nn.functional.dropout


@pytest.mark.parametrize("recorded", [False, True])
def test_in_place_returns_its_argument_and_counts_a_version(recorded):
    leaf = integers(40).requires_grad_(recorded)
    x = leaf * 1
    wanted, version, address = x.detach() * factors(x), x._version, x.data_ptr()
    y = dropout(x, P, inplace=True, seed=SEED)
    assert y is x
    assert (x._version, x.data_ptr()) == (version + 1, address)
    assert_same_bits(x, wanted)


def test_in_place_module():
    x = torch.ones(100)
    assert fastdrop.Dropout(P, inplace=True)(x) is x
    assert set(x.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_gradients_through_in_place(layout):
    leaf = layout(integers(6, 40)).detach().requires_grad_()
    x = leaf.clone()
    wanted = factors(x)
    y = dropout(x, P, inplace=True, seed=SEED)
    assert y.requires_grad and not y.is_leaf
    (x**3).sum().backward()
    assert_same_bits(leaf.grad, 3 * wanted**3 * leaf**2)


def make_leaf():
    return torch.ones(6, 8, requires_grad=True)


REFUSED = {
    "leaf": make_leaf,
    "view of a leaf": lambda: make_leaf().view(48),
    "slice of a leaf": lambda: make_leaf()[1:],
    "transposed leaf": lambda: make_leaf().t(),
    "expanded": lambda: torch.ones(6, 1).expand(6, 8),
    "expanded and recorded": lambda: (torch.ones(6, 1, requires_grad=True) * 1).expand(6, 8),
    "one of several views": lambda: (make_leaf() * 1).unbind(0)[1],
    "one of several chunks": lambda: (make_leaf() * 1).split(3)[0],
    "view made in no_grad": torch.no_grad()(lambda: make_leaf().view(48)),
    "inference": torch.inference_mode()(lambda: torch.ones(6, 8)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_in_place_is_refused_as_by_native(make):
    ours, theirs = make(), make()
    wanted = error_of(lambda: native(theirs, P, inplace=True))
    assert wanted is not None
    assert error_of(lambda: dropout(ours, P, inplace=True)) == wanted
    if (theirs == 1).all():  # native writes inference tensors before it finds that it must not
        assert_same_bits(ours, torch.ones(ours.shape))


@pytest.mark.parametrize(
    "make", [make_leaf, lambda: make_leaf()[1:], lambda: make_leaf().t()], ids=["leaf", "view", "t"]
)
def test_in_place_under_no_grad_may_write_leaves(make):
    with torch.no_grad():
        x = make()
        wanted, version = x * factors(x.detach(), HARD_P), x._version
        assert dropout(x, HARD_P, inplace=True, seed=SEED) is x
        assert_same_bits(x, oracle.apply(torch.ones_like(x), oracle.keep(x, HARD_P, SEED), HARD_P))
        assert_same_bits(x, wanted)
        assert x._version == version + 1


def test_overwriting_what_a_backward_needs_is_an_error():
    for call in (native, dropout):
        leaf = torch.ones(40, requires_grad=True)
        y = leaf.exp()
        call(y, P, inplace=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_overwriting_a_view_of_what_a_backward_needs_is_an_error():
    for call in (native, dropout):
        leaf = torch.ones(6, 8, requires_grad=True)
        y = leaf.exp()
        call(y[2:], P, inplace=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_overwriting_without_grad_what_a_backward_needs_is_an_error():
    for call in (native, dropout):
        leaf = torch.ones(40, requires_grad=True)
        y = leaf.exp()
        with torch.no_grad():
            call(y, P, inplace=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_in_place_on_a_view_reaches_its_base_and_its_gradient():
    leaf = integers(6, 8).requires_grad_()
    base = leaf * 1
    part = base[2:5]
    wanted = factors(part.detach())
    assert dropout(part, P, inplace=True, seed=SEED) is part
    assert_same_bits(base, torch.cat([leaf[:2], leaf[2:5] * wanted, leaf[5:]]))
    (base**2).sum().backward()
    d = torch.cat([torch.ones(2, 8), wanted, torch.ones(1, 8)]).double()
    assert_same_bits(leaf.grad, 2 * d**2 * leaf)


def test_in_place_on_a_base_reaches_its_views():
    leaf = integers(6, 8).requires_grad_()
    base = leaf * 1
    column = base[:, 3]
    wanted = factors(base.detach())
    dropout(base, P, inplace=True, seed=SEED)
    assert_same_bits(column, (leaf * wanted)[:, 3])
    column.sum().backward()
    assert_same_bits(leaf.grad, torch.zeros(6, 8).double().index_copy(1, torch.tensor([3]), wanted[:, 3:4]))


def test_in_place_twice():
    leaf = integers(400).requires_grad_()
    x = leaf * 1
    d = factors(x.detach(), seed=1) * factors(x.detach(), seed=2)
    dropout(dropout(x, P, inplace=True, seed=1), P, inplace=True, seed=2)
    (x**2).sum().backward()
    assert_same_bits(leaf.grad, 2 * d**2 * leaf)
