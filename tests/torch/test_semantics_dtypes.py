"""Beside torch's own dropout: integers, complex numbers and other dtypes."""

import oracle
import pytest
import torch
from beside_native import BOTH, native
from oracle import assert_same_bits, error_of

from fastdrop.functional import dropout

OTHER_DTYPES = [
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32),
    *(torch.complex64, torch.complex128, torch.float8_e4m3fn),
]


@pytest.mark.parametrize("inplace", [False, True])
@BOTH
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_other_dtypes_as_native(dtype, p, training, inplace):
    ours, theirs = torch.ones(5).to(dtype), torch.ones(5).to(dtype)
    wanted = error_of(lambda: native(theirs, p, training, inplace))
    assert error_of(lambda: dropout(ours, p, training, inplace)) == wanted
    if wanted is None:
        y, wanted = dropout(ours, p, training, inplace), native(theirs, p, training, inplace)
        assert (y is ours) == (wanted is theirs)
        assert y.dtype is wanted.dtype
        assert y.tolist() == wanted.tolist()


@pytest.mark.parametrize("kind", ["Long", "Int", "Short", "Char", "Byte", "Bool"])
def test_integers_fail_with_a_seed_too(kind):
    x = torch.ones(5).type(f"torch.{kind}Tensor")
    text = f"result type Float can't be cast to the desired output type {kind}"
    for key in ({"seed": 1}, {"generator": torch.Generator()}):
        assert error_of(lambda key=key: dropout(x, 0.5, **key)) == ("RuntimeError", text)


@pytest.mark.parametrize("p", [0.4, 0.9999])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t()], ids=["contiguous", "transposed"])
@pytest.mark.parametrize(("dtype", "real"), [(torch.complex64, torch.float32), (torch.complex128, torch.float64)])
def test_complex_with_a_seed_takes_the_streams_mask(dtype, real, make, p):
    x = make(torch.complex(*torch.tensor([1, -2], dtype=real)).expand(200, 300).contiguous())
    y = dropout(x, p, seed=6)
    assert y.dtype is dtype
    wanted = oracle.dropout(torch.ones_like(x, dtype=real), p, 6)
    assert_same_bits(y.real, wanted)
    assert_same_bits(y.imag.abs(), 2 * wanted)
    assert wanted.any()


def test_complex_gradients_meet_the_streams_mask():
    x = torch.randn(50, dtype=torch.complex64, requires_grad=True)
    grad_output = torch.randn(50, dtype=torch.complex64)
    (grad,) = torch.autograd.grad(dropout(x, 0.5, seed=3), x, grad_output)
    keep = oracle.keep(torch.empty(50), 0.5, 3)
    assert torch.equal(grad, torch.where(keep, 2 * grad_output, 0))
