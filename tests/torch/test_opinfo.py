"""Torch's own samples of its dropouts, run through ours."""

import inspect

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits

from fastdrop import functional

NAMES = ["dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
OWN_DRAWS = {  # how many of an input's leading dimensions have draws of their own; others: all
    "dropout2d": lambda x: 2,
    "dropout3d": lambda x: x.dim() - 3,
    "feature_alpha_dropout": lambda x: 2,
}
pytestmark = pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning")


@pytest.fixture(scope="module")
def opinfos():
    from torch.testing._internal.common_methods_invocations import op_db  # takes seconds, so not when tests are listed

    return {(op.name.removeprefix("nn.functional."), op.variant_test_name): op for op in op_db if "dropout" in op.name}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def function(name):
    return getattr(functional, name)


@pytest.fixture
def opinfo(opinfos, name):
    return opinfos[name, "with_train" if name == "feature_alpha_dropout" else ""]


@pytest.fixture
def samples(opinfo, dtype):
    found = list(opinfo.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(found) >= 7
    return found


def arguments(function, sample):
    """Return p and whether something is dropped at it."""
    bound = inspect.signature(function).bind(sample.input, *sample.args, **sample.kwargs)
    bound.apply_defaults()
    return bound.arguments["p"], bound.arguments["training"] and bound.arguments["p"] > 0


def call(function, sample, x=None, **more):
    return function(sample.input if x is None else x, *sample.args, **sample.kwargs, **more)


def seeded(function, *args, **more):
    torch.manual_seed(8)
    return function(*args, **more)


def mask_of(function, sample) -> torch.Tensor:
    """Return the mask of the next call: a one that is kept stays positive, dropped it does not."""
    return call(function, sample, torch.ones_like(sample.input)) > 0


def wanted_of(name: str, x: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    return (oracle.apply_alpha if "alpha" in name else oracle.apply)(x, kept, p)


def test_our_dtypes_are_natives(opinfo):
    assert opinfo.dtypes == set(FLOATS)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.sampled(3)
def test_results(opinfo, samples, name, function, dtype):
    for sample in samples:
        x, (p, drops) = sample.input, arguments(function, sample)
        y, native = seeded(call, function, sample), call(opinfo.op, sample)
        assert (y is x) == (not drops) == (native.data_ptr() == x.data_ptr())  # native may return a view of x
        assert (y.shape, y.dtype, y.layout, y.stride()) == (native.shape, dtype, native.layout, native.stride())
        assert y.requires_grad == native.requires_grad
        if drops:
            assert_same_bits(y, wanted_of(name, x, seeded(mask_of, function, sample), p))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.sampled(3)
def test_every_p_drops_its_share(samples, name, function, dtype):
    kept, expected, variance = 0, 0.0, 0.0
    torch.manual_seed(3)
    for sample in samples:
        x, (p, drops) = sample.input, arguments(function, sample)
        if not drops:
            continue
        draws = x.dim() if name not in OWN_DRAWS else OWN_DRAWS[name](x)
        for _ in range(50):
            by_draws = mask_of(function, sample).reshape(*x.shape[:draws], -1)
            assert torch.equal(by_draws, by_draws[..., :1].expand_as(by_draws))
            kept += int(by_draws[..., 0].sum())
        count = 50 * by_draws[..., 0].numel()
        expected += count * (1 - p)
        variance += count * p * (1 - p)
    assert variance > 300
    assert abs(kept - expected) < 4 * variance**0.5


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.sampled(3)
def test_gradients_are_of_the_same_mask(samples, name, function, dtype):
    for sample in samples:
        x, (p, drops) = sample.input, arguments(function, sample)
        if not drops:
            continue
        y = seeded(call, function, sample)
        gradient = torch.randn(y.shape, dtype=torch.float64).to(dtype)
        (got,) = torch.autograd.grad(y, x, gradient)
        scale = oracle.alpha_factors(p, dtype)[0] if "alpha" in name else oracle.scale(p, dtype)
        scaled = (gradient.to(oracle.COMPUTE[dtype]) * scale).to(dtype)
        assert_same_bits(got, torch.where(seeded(mask_of, function, sample), scaled, 0))


@pytest.mark.parametrize("dtype", [torch.float64])
@pytest.mark.sampled(2)
def test_gradients_are_those_of_finite_differences(samples, function, dtype):
    for sample in samples:

        def keyed(x, sample=sample):
            return call(function, sample, x, seed=9)

        fast = sample.input.numel() > 25
        assert torch.autograd.gradcheck(keyed, sample.input, check_forward_ad=True, fast_mode=fast)
        assert torch.autograd.gradgradcheck(keyed, sample.input, check_fwd_over_rev=True, fast_mode=fast)


def test_error_inputs(opinfo, function):
    # Torch lists no error inputs for dropout today; those it may list one day have to fail with us as with native.
    listed = opinfo.error_inputs("cpu") if opinfo.error_inputs_func else []
    for case in listed:
        sample = case.sample_input
        with pytest.raises(case.error_type, match=case.error_regex):
            call(function, sample)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.sampled(3)
def test_in_place(samples, name, function, dtype):
    for sample in samples:
        x, (p, drops) = sample.input, arguments(function, sample)
        overwritten = x.detach().clone()
        assert seeded(call, function, sample, overwritten, inplace=True) is overwritten
        wanted = wanted_of(name, x, seeded(mask_of, function, sample), p) if drops else x
        assert_same_bits(overwritten, wanted)


def test_samples_that_are_not_in_training(opinfos):
    opinfo = opinfos["feature_alpha_dropout", "without_train"]
    for dtype in opinfo.dtypes:
        for sample in opinfo.sample_inputs("cpu", dtype):
            y = call(functional.feature_alpha_dropout, sample)
            assert y is sample.input is call(opinfo.op, sample)
