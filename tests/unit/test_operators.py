"""The operators of graphs, called by hand."""

import oracle
import pytest
import torch
from exact import integers
from graphs import (
    ALL_LAYOUTS,
    HALF,
    LAYOUTS,
    MARKS,
    SEED,
    P,
    assert_dropout,
    factors,
    gradient,
    leaf,
    operator,
    tensor,
    turned,
    values,
)
from oracle import FLOATS, assert_same_bits

from fastdrop.functional import dropout_mask

pytestmark = MARKS

mask_operator = torch.ops.fastdrop.dropout_mask.default


@ALL_LAYOUTS
@pytest.mark.sampled(2)
def test_opcheck_of_layouts(make):
    torch.library.opcheck(operator, (leaf(make(torch.float32)), P, tensor(SEED), 3))


def test_opcheck_without_gradients():
    for x in (values(6, 40), values(6, 80)[:, ::2].t()):
        torch.library.opcheck(operator, (x, P, tensor(SEED)))


@pytest.mark.parametrize(
    ("dtype", "args"),
    [
        *[(dtype, (P, tensor(SEED))) for dtype in FLOATS],
        *[(torch.float32, (p, torch.tensor([7]))) for p in (0.0, 1.0)],
        *[(torch.float32, (P, tensor(SEED), offset)) for offset in (2**63 - 1, -1)],
        *[(torch.float32, (P, tensor(SEED), 2, strides)) for strides in ([40, 1], [1, 6], None)],
    ],
)
def test_opcheck_of_arguments(dtype, args):
    torch.library.opcheck(operator, (leaf(values(40, 6).t().to(dtype)), *args))


def test_opcheck_of_complex_numbers():
    for name in ("contiguous", "transposed", "sliced", "sliced and transposed"):
        torch.library.opcheck(operator, (leaf(LAYOUTS[name](torch.complex64)), P, tensor(SEED)))


@pytest.mark.parametrize("args", [(), (3,), (-1, 2**40), (0, 0, torch.device("cpu"))])
@pytest.mark.parametrize("size", [[], [6, 40], [0, 4]])
def test_opcheck_of_masks(size, args):
    torch.library.opcheck(mask_operator, (size, P, tensor(SEED), *args))


@pytest.mark.parametrize("dtype", FLOATS)
@ALL_LAYOUTS
def test_operator_is_dropout(make, dtype):
    x = leaf(make(dtype))
    assert_dropout(operator(x, P, tensor(SEED), 5), x, offset=5)


@pytest.mark.parametrize("recorded", [False, True], ids=["", "requires_grad"])
@ALL_LAYOUTS
def test_operator_counts_in_the_order_of_given_strides(make, recorded):
    x = make(torch.float32).detach().requires_grad_(recorded)
    for other in (values(*x.shape), turned(*x.shape)):
        y = operator(x, P, tensor(SEED), 0, other.stride())
        kept = oracle.keep(other, P, SEED)
        assert_same_bits(y, oracle.apply(x, kept, P))
        assert y.stride() == other.stride() or not y.numel()
        if recorded:
            assert_same_bits(gradient(y, x, other), oracle.apply(other, kept, P))


def test_operator_records_only_where_it_has_to():
    x = leaf(values(40))
    y = operator(x, P, tensor(SEED))  # held: torch 2.10 frees what is saved with the result
    assert [(one.shape, one.dtype) for one in y.grad_fn.saved_tensors] == [((), torch.int64)]
    assert not operator(x.detach(), P, tensor(SEED)).requires_grad
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            y = operator(x, P, tensor(SEED))
            assert not y.requires_grad
            assert_same_bits(y, oracle.dropout(x, P, SEED))


def test_operator_of_complex_numbers():
    x = leaf(torch.complex(integers(40), -integers(40)))
    y = operator(x, HALF, tensor(SEED))
    assert torch.equal(y, x * factors(x.real))
    assert torch.equal(gradient(y, x), factors(x.real).to(y.dtype))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: operator(values(4), 1.5, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: operator(values(4), -0.1, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: operator(values(4), float("nan"), tensor(1)), RuntimeError, "dropout probability has to be"),
        (lambda: operator(values(4), P, torch.tensor(1.0)), TypeError, r"one element, but got torch.float32 of"),
        (lambda: operator(values(4), P, torch.tensor(1).int()), TypeError, r"one element, but got torch.int32 of"),
        (lambda: operator(values(4), P, torch.tensor([1, 2])), TypeError, r"torch.int64 of shape \(2,\)"),
        (lambda: mask_operator([4], 1.5, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: mask_operator([4], P, torch.tensor(1.0)), TypeError, r"one element, but got torch.float32 of"),
        (lambda: mask_operator([4], P, torch.tensor([1, 2])), TypeError, r"torch.int64 of shape \(2,\)"),
        (lambda: mask_operator([4], P, tensor(1), 0, -1), ValueError, "start has to be at least 0"),
        (lambda: mask_operator([2, 2], P, tensor(1), 0, 2**63 - 3), ValueError, "start has to be at least 0"),
    ],
)
def test_operators_check_their_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_mask_operator_at_the_end_of_the_stream():
    wanted = dropout_mask(4, P, seed=3, start=2**63 - 4)
    assert torch.equal(mask_operator([2, 2], P, tensor(3), 0, 2**63 - 4), wanted.reshape(2, 2))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("formula", ["dropout_add", "mask", "relu"])
def test_formulas_that_the_operator_does_not_compute(formula, grad):
    x = torch.ones(8, requires_grad=grad)
    with pytest.raises(ValueError, match=f"formula has to be one of dropout, .*, but got {formula}"):
        torch.ops.fastdrop.dropout(x, 0.5, torch.tensor(1), formula=formula)
