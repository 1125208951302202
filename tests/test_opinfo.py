"""Torch's own samples of its dropout, run through ours."""

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits

from fastdrop.functional import dropout


@pytest.fixture(scope="module")
def opinfo():
    from torch.testing._internal.common_methods_invocations import op_db  # takes seconds, so not when tests are listed

    (found,) = [op for op in op_db if op.name == "nn.functional.dropout"]
    return found


@pytest.fixture
def samples(opinfo, dtype):
    found = list(opinfo.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(found) >= 10
    return found


def mask_of(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Where y is not +0, for an x without zeros."""
    assert x.all()
    return oracle.bits(y) != 0


def test_our_dtypes_are_natives(opinfo):
    assert opinfo.dtypes == set(FLOATS)


@pytest.mark.parametrize("dtype", FLOATS)
def test_results(opinfo, samples, dtype):
    for sample in samples:
        x, (args, kwargs) = sample.input, (sample.args, sample.kwargs)
        y, native = dropout(x, *args, **kwargs), opinfo.op(x, *args, **kwargs)
        assert (y is x) == (native is x)
        assert (y.shape, y.dtype, y.layout, y.stride()) == (native.shape, dtype, native.layout, native.stride())
        assert y.requires_grad == native.requires_grad
        if y is not x:
            assert_same_bits(y, oracle.apply(x, mask_of(y, x), kwargs.get("p", 0.5)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_p_drops_its_share(samples, dtype):
    kept, expected, variance = 0, 0.0, 0.0
    torch.manual_seed(3)
    for sample in samples:
        x, p = sample.input, sample.kwargs.get("p", 0.5) if sample.kwargs.get("training", True) else 0.0
        for _ in range(50):
            kept += int(mask_of(dropout(x, *sample.args, **sample.kwargs), x).sum())
        expected += 50 * x.numel() * (1 - p)
        variance += 50 * x.numel() * p * (1 - p)
    assert variance > 300
    assert abs(kept - expected) < 4 * variance**0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_are_of_the_same_mask(samples, dtype):
    for sample in samples:
        x = sample.input
        y = dropout(x, *sample.args, **sample.kwargs)
        if y is x:
            continue
        gradient = torch.randn(y.shape, dtype=torch.float64).to(dtype)
        (got,) = torch.autograd.grad(y, x, gradient)
        assert_same_bits(got, oracle.apply(gradient, mask_of(y, x), sample.kwargs.get("p", 0.5)))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")  # torch's own, in gradcheck
@pytest.mark.parametrize("dtype", [torch.float64])
def test_gradients_are_those_of_finite_differences(samples, dtype):
    for sample in samples:

        def call(x, sample=sample):
            return dropout(x, *sample.args, **sample.kwargs, seed=9)

        assert torch.autograd.gradcheck(call, sample.input, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(call, sample.input, check_fwd_over_rev=True)


def test_error_inputs(opinfo):
    # Torch lists no error inputs for dropout today; those it may list one day have to fail with us as with native.
    listed = opinfo.error_inputs("cpu") if opinfo.error_inputs_func else []
    for case in listed:
        sample = case.sample_input
        with pytest.raises(case.error_type, match=case.error_regex):
            dropout(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_in_place(samples, dtype):
    for sample in samples:
        x, training, p = sample.input, sample.kwargs.get("training", True), sample.kwargs.get("p", 0.5)
        overwritten = x.detach().clone()
        assert dropout(overwritten, *sample.args, **sample.kwargs, inplace=True) is overwritten
        assert_same_bits(overwritten, oracle.apply(x, mask_of(overwritten, x), p) if training else x)
