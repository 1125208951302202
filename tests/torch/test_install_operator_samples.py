"""Torch's own samples of its operators, run with install() on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_operators import assert_near, layout, reference

import fastdrop

pytestmark = [
    pytest.mark.usefixtures("one_thread"),  # the samples are tiny
    pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning"),
]

SEED_OF_SAMPLES = 42  # that torch's own OpInfos set before each call
OPERATORS = {  # OpInfo -> operator
    "nn.functional.dropout": "dropout",
    "nn.functional.dropout2d": "feature_dropout",
    "nn.functional.dropout3d": "feature_dropout",
    "nn.functional.alpha_dropout": "alpha_dropout",
    "nn.functional.feature_alpha_dropout.with_train": "feature_alpha_dropout",
    "nn.functional.feature_alpha_dropout.without_train": "feature_alpha_dropout",
}
MHA = "nn.functional.multi_head_attention_forward"


@pytest.fixture(scope="module")
def opinfos() -> dict[str, Any]:
    from torch.testing._internal.common_methods_invocations import op_db  # takes seconds, so not when tests are listed

    return {".".join(filter(None, (op.name, op.variant_test_name))): op for op in op_db}


def samples_of(op: Any, dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(1)
    gradients = dtype.is_floating_point or dtype.is_complex
    found = list(op.sample_inputs("cpu", dtype, requires_grad=gradients and op.supports_autograd))
    assert found
    return found


def call(function: Callable[..., Any], sample: Any, x: torch.Tensor | None = None) -> Any:
    return function(sample.input if x is None else x, *sample.args, **sample.kwargs)


def assert_result(info: str, y: torch.Tensor, native: torch.Tensor, sample: Any) -> None:
    """Check a result: of layout and kind as native's, and where something is dropped, by the stream's mask."""
    name = OPERATORS[info]
    assert layout(y) == layout(native)
    p = sample.kwargs.get("p", 0.5)
    if sample.kwargs.get("training", name not in ("alpha_dropout", "feature_alpha_dropout")) and 0 < p < 1:
        torch.manual_seed(SEED_OF_SAMPLES)
        seed, x = int(torch.randint(2**63 - 1, ())), sample.input.detach().double()
        unbatched = info == "nn.functional.dropout3d" and x.dim() == 4
        assert_near(y, reference(name, x[None], seed, p)[0] if unbatched else reference(name, x, seed, p))
    else:
        assert torch.equal(y, native)


@pytest.mark.parametrize("info", OPERATORS)
def test_results(opinfos, info):
    op = opinfos[info]
    for dtype in op.supported_dtypes("cpu"):
        for sample in samples_of(op, dtype):
            native = call(op, sample)
            with fastdrop.accelerated():
                y = call(op, sample)
            assert (y is sample.input) == (native is sample.input)
            assert_result(info, y, native, sample)


@pytest.mark.parametrize("info", OPERATORS)
def test_results_in_place(opinfos, info):
    op = opinfos[info]
    assert op.inplace_variant is not None
    for dtype in op.supported_dtypes("cpu"):
        for sample in samples_of(op, dtype):
            native = call(op.inplace_variant, sample, sample.input.clone())
            x = sample.input.clone()
            with fastdrop.accelerated():
                y = call(op.inplace_variant, sample, x)
            assert y is x
            assert_result(info, y, native, sample)


@pytest.mark.parametrize("info", OPERATORS)
def test_native_dropout_of_the_same_samples(opinfos, info):
    for sample in samples_of(opinfos[info], torch.float64):
        p, train = sample.kwargs.get("p", 0.5), sample.kwargs.get("training", True)

        def seeded(sample: Any = sample, p: float = p, train: bool = train) -> tuple[torch.Tensor, torch.Tensor]:
            torch.manual_seed(SEED_OF_SAMPLES)
            return torch.native_dropout(sample.input, p, train)

        native = seeded()
        with fastdrop.accelerated():
            y, mask = seeded()
        assert [layout(mask), mask.dtype] == [layout(native[1]), torch.bool]
        assert_result("nn.functional.dropout", y, native[0], type(sample)(sample.input, p=p, training=train))
        if 0 < p < 1:
            assert torch.equal(mask, y != 0)


@pytest.mark.parametrize("info", OPERATORS)
def test_gradients(opinfos, info):
    op = opinfos[info]
    assert op.supports_forward_ad and op.supports_gradgrad and op.supports_fwgrad_bwgrad and op.check_batched_grad
    for sample in samples_of(op, torch.float64):

        def function(x: torch.Tensor, sample: Any = sample) -> Any:
            return call(op, sample, x)  # which sets the seed

        how = {"fast_mode": sample.input.numel() > 5, "check_batched_grad": True}
        with fastdrop.accelerated():
            assert torch.autograd.gradcheck(function, sample.input, check_forward_ad=True, **how)
            assert torch.autograd.gradgradcheck(function, sample.input, check_fwd_over_rev=True, **how)


@pytest.mark.parametrize("info", [MHA, "nn.functional.scaled_dot_product_attention"])
def test_attention(opinfos, info):
    op = opinfos[info]
    for sample in samples_of(op, torch.float64):
        native = torch.utils._pytree.tree_leaves(call(op, sample))
        with fastdrop.accelerated():
            ours = torch.utils._pytree.tree_leaves(call(op, sample))
            assert torch.autograd.gradcheck(
                lambda x, sample=sample: call(op, sample, x), sample.input, fast_mode=True, nondet_tol=1e-12
            )
        assert [layout(y) for y in ours] == [layout(y) for y in native]
        drops = info == MHA or sample.kwargs["dropout_p"] > 0
        assert torch.equal(ours[0], native[0]) != drops


@pytest.mark.parametrize("info", ["bernoulli", "native_dropout_backward"])
def test_neighbours_stay_natives(opinfos, info):
    op = opinfos[info]
    for dtype in op.supported_dtypes("cpu"):
        for sample in samples_of(op, dtype):
            native = call(op, sample)
            with fastdrop.accelerated(bernoulli=True):
                assert torch.equal(call(op, sample), native)


@pytest.mark.parametrize("info", [*OPERATORS, "bernoulli"])
def test_errors(opinfos, info):
    op = opinfos[info]
    for case in op.error_inputs("cpu") if op.error_inputs_func else []:
        with fastdrop.accelerated(bernoulli=True), pytest.raises(case.error_type, match=case.error_regex):
            call(op, case.sample_input)
