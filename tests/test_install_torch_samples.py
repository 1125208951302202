"""Torch's own samples of its operators and modules, run with install() on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from oracle import assert_same_bits
from torch import nn
from torch_operators import assert_near, reference

import fastdrop

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning"),  # torch's own, in gradcheck
    pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),  # of TransformerEncoder too
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but:UserWarning"),  # of TransformerEncoder
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
RECURRENT = ["nn.RNN", "nn.LSTM", "nn.GRU"]
CELLS = ["nn.RNNCell", "nn.LSTMCell", "nn.GRUCell"]  # without dropout, and yet they have to stay as they are
DROPPING = [
    *("nn.Transformer", "nn.TransformerEncoder", "nn.TransformerEncoderLayer", "nn.TransformerDecoderLayer"),
    *("nn.MultiheadAttention", *RECURRENT),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute the samples, which are tiny, without waiting for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Operators


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


def layout(y: torch.Tensor) -> tuple[Any, ...]:
    return y.shape, y.dtype, y.layout, y.stride(), y.requires_grad


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


# Modules


@pytest.fixture(scope="module")
def module_infos() -> dict[str, Any]:
    from torch.testing._internal.common_modules import module_db

    return {info.name: info for info in module_db}


def module_samples(info: Any, dtype: torch.dtype, training: bool) -> list[Any]:
    torch.manual_seed(1)
    found = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
    assert len(found) >= 2
    return found


def build(info: Any, sample: Any, dtype: torch.dtype, training: bool, p: float) -> nn.Module:
    """Return a sample's module, with dropout as wanted: in torch's samples it is always 0."""
    torch.manual_seed(2)
    module = info.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs).to(dtype)
    for each in module.modules():
        if isinstance(each, nn.Dropout):
            each.p = p
        elif isinstance(each, (nn.MultiheadAttention, nn.RNNBase)):
            each.dropout = p
    return module.train(training)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def forward(module: nn.Module, sample: Any, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return tensors(module(*sample.forward_input.args, **sample.forward_input.kwargs))


def sources_of(module: nn.Module, sample: Any) -> list[torch.Tensor]:
    inputs = tensors((sample.forward_input.args, sample.forward_input.kwargs))
    return [x for x in (*inputs, *module.parameters()) if x.requires_grad]


def forward_and_backward(module: nn.Module, sample: Any) -> list[torch.Tensor]:
    results = forward(module, sample)
    total = sum(result.square().sum() for result in results)
    gradients = torch.autograd.grad(total, sources_of(module, sample), allow_unused=True)
    return results + tensors(gradients)


def run_reference(module: nn.Module, sample: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return tensors(sample.reference_fn(module, *sample.forward_input.args, **sample.forward_input.kwargs))


@pytest.mark.parametrize(("training", "p"), [(True, 0.0), (False, 0.5)], ids=["p=0", "eval"])
@pytest.mark.parametrize("name", DROPPING + CELLS)
def test_modules_that_drop_nothing_are_natives_bit_for_bit(module_infos, name, training, p):
    info = module_infos[name]
    for sample in module_samples(info, torch.float32, training):
        module = build(info, sample, torch.float32, training, p)
        native = forward_and_backward(module, sample)
        with torch.no_grad():
            native += forward(module, sample)  # by fast paths of their own
        with fastdrop.accelerated():
            ours = forward_and_backward(module, sample)
            wanted = run_reference(module, sample) if sample.reference_fn else []
            with torch.no_grad():
                ours += forward(module, sample)
        assert [layout(y) for y in ours] == [layout(y) for y in native]
        for y, one in zip(ours, native, strict=True):
            assert_same_bits(y, one)
        for y, one in zip(ours, wanted, strict=False):
            torch.testing.assert_close(y, one, equal_nan=True)


@pytest.mark.parametrize("name", DROPPING)
def test_modules_that_drop(module_infos, name):
    info, masks_differ = module_infos[name], []
    for sample in module_samples(info, torch.float64, training=True):
        module = build(info, sample, torch.float64, training=True, p=0.3)
        whole = forward(build(info, sample, torch.float64, training=True, p=0.0), sample)
        native = forward_and_backward(module, sample)
        with fastdrop.accelerated():
            ours = forward_and_backward(module, sample)
            again, others = forward(module, sample), [forward(module, sample, seed) for seed in (1, 2)]
            wanted = run_reference(module, sample) if sample.reference_fn and "fastpath" not in sample.desc else []
        assert [layout(y) for y in ours] == [layout(y) for y in native]
        for y, one in zip(ours, again, strict=False):
            assert_same_bits(y, one)
        for y, one in zip(ours, wanted, strict=False):  # of the same samples, and the same elements in memory's order
            torch.testing.assert_close(y, one, equal_nan=True)
        masks_differ.append(
            not any(torch.equal(ours[0], other[0]) for other in (native, whole))
            and not all(torch.equal(ours[0], other[0]) for other in others)
        )
    assert sum(masks_differ) > 0.7 * len(masks_differ)  # with some weights all is 0, whatever is dropped


@pytest.mark.parametrize("name", DROPPING)
def test_gradients_of_modules_that_drop(module_infos, name):
    info = module_infos[name]
    for sample in module_samples(info, torch.float64, training=True)[::4]:
        module = build(info, sample, torch.float64, training=True, p=0.3)

        def seeded(*sources: torch.Tensor, module: nn.Module = module, sample: Any = sample) -> Any:
            results = forward(module, sample)
            return tuple(result for result in results if result.requires_grad)

        with fastdrop.accelerated():
            assert torch.autograd.gradcheck(seeded, sources_of(module, sample), fast_mode=True)


@pytest.mark.parametrize("name", DROPPING)
def test_statistics_of_modules_that_drop(module_infos, name):
    info = module_infos[name]
    sample = module_samples(info, torch.float64, training=True)[-1]
    module = build(info, sample, torch.float64, training=True, p=0.3)
    native = torch.stack([forward(module, sample, seed)[0] for seed in range(400)]).detach()
    with fastdrop.accelerated():
        ours = torch.stack([forward(module, sample, seed)[0] for seed in range(400)]).detach()
    for one, other in ((ours, native), (ours**2, native**2)):
        error = ((one.var(0) + other.var(0)) / 400).sqrt()
        assert (error > 0).any()
        assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error + 1e-12).all()
