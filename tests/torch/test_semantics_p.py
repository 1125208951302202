"""Beside torch's own dropout: which p is accepted, when the same object comes back, and what p = 1 leaves."""

import numpy as np
import oracle
import pytest
import torch
from beside_native import BOTH, native
from oracle import FLOATS, assert_same_bits, error_of

import fastdrop
from fastdrop.functional import dropout

NAN, INF = float("nan"), float("inf")


# p


BAD_P = [-0.1, 1.1, 2, NAN, -INF, "a", None, [0.5], 1j, torch.tensor([0.1, 0.2]), torch.tensor(1.5), torch.tensor(NAN)]


@BOTH
@pytest.mark.parametrize("p", BAD_P, ids=str)
def test_bad_p(p, training):
    wanted = error_of(lambda: native(torch.ones(4), p, training))
    assert wanted is not None
    assert error_of(lambda: dropout(torch.ones(4), p, training)) == wanted
    assert error_of(lambda: dropout(torch.ones(0), p, training)) == wanted
    assert error_of(lambda: dropout(torch.ones(4), p, training, inplace=True, seed=0)) == wanted


@pytest.mark.parametrize("p", [*BAD_P, 0, 1, True, False, 0.5, torch.tensor(0.5)], ids=str)
def test_module_checks_p_when_it_is_made(p):
    wanted = error_of(lambda: torch.nn.Dropout(p))
    assert error_of(lambda: fastdrop.Dropout(p)) == wanted
    if wanted is None:
        assert fastdrop.Dropout(p).p is p
        wanted = error_of(lambda: torch.nn.Dropout(p)(torch.ones(4)))
        assert error_of(lambda: fastdrop.Dropout(p)(torch.ones(4))) == wanted
        wanted = error_of(lambda: torch.nn.Dropout(p).eval()(torch.ones(4)))
        assert error_of(lambda: fastdrop.Dropout(p).eval()(torch.ones(4))) == wanted


@BOTH
@pytest.mark.parametrize("p", [True, False, 0, 1, -0.0, torch.tensor(0.0), torch.tensor(1)], ids=repr)
def test_p_of_0_and_1_in_any_type(p, training):
    x = torch.tensor([1.0, 2.0, 3.0])
    y, wanted = dropout(x, p, training), native(x, p, training)
    assert (y is x) == (wanted is x)
    assert_same_bits(y, wanted)


@pytest.mark.parametrize("p", [torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64), np.float32(0.5)], ids=repr)
def test_other_types_of_p(p):
    x = torch.ones(2000)
    assert set(native(x, p).tolist()) == {0.0, 2.0}  # accepted there
    assert_same_bits(dropout(x, p, seed=4), oracle.dropout(x, 0.5, 4))


# The same object, and p = 1


def call_functional(x, p, training, inplace):
    return dropout(x, p, training, inplace)


def call_module(x, p, training, inplace):
    return fastdrop.Dropout(p, inplace).train(training)(x)


CALLS = pytest.mark.parametrize("call", [call_functional, call_module])


@CALLS
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize(
    ("shape", "p", "training"),
    [
        ((5,), 0.5, False),
        ((5,), 1.0, False),
        ((5,), 0.0, True),
        ((), 0.0, True),
        ((0,), 0.5, True),
        ((3, 0), 1.0, True),
    ],
)
def test_same_object(shape, p, training, dtype, inplace, call):
    x = torch.ones(shape, dtype=dtype)
    assert native(x, p, training, inplace) is x
    assert call(x, p, training, inplace) is x
    assert x._version == 0
    assert torch.equal(x, torch.ones(shape, dtype=dtype))


@CALLS
def test_same_object_for_a_leaf_in_place(call):
    leaf = torch.ones(5, requires_grad=True)
    for p, training in [(0.5, False), (0.0, True)]:
        assert call(leaf, p, training, True) is leaf


@CALLS
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_p_of_1_gives_positive_zeros(dtype, inplace, call):
    x = torch.tensor([NAN, INF, -INF, -0.0, -1.0, 1.0, torch.finfo(dtype).tiny], dtype=dtype).repeat(300)
    y = call(x, 1.0, True, inplace)
    assert (y is x) == inplace
    assert y.shape == (2100,) and y.dtype is dtype
    assert not y.any() and not y.signbit().any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, -0.0], ids=str)
def test_special_values(value, dtype):
    x = torch.full((3000,), value, dtype=dtype)
    assert_same_bits(dropout(x, 0.4, seed=8), oracle.dropout(x, 0.4, 8))


def test_gradient_at_p_of_1_is_positive_zero():
    x = torch.ones(9, requires_grad=True)
    dropout(x, 1.0).backward(torch.tensor([NAN, INF, -1.0] * 3))
    assert_same_bits(x.grad, torch.zeros(9))
