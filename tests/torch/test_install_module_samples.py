"""Torch's own samples of its modules, run with install() on."""

from typing import Any

import pytest
import torch
from oracle import assert_same_bits
from torch import nn
from torch_operators import layout

import fastdrop

pytestmark = [
    pytest.mark.usefixtures("one_thread"),  # the samples are tiny
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),  # of TransformerEncoder too
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but:UserWarning"),  # of TransformerEncoder
]

RECURRENT = ["nn.RNN", "nn.LSTM", "nn.GRU"]
DRAWS = 150
CELLS = ["nn.RNNCell", "nn.LSTMCell", "nn.GRUCell"]  # without dropout, and yet they have to stay as they are
DROPPING = [
    *("nn.Transformer", "nn.TransformerEncoder", "nn.TransformerEncoderLayer", "nn.TransformerDecoderLayer"),
    *("nn.MultiheadAttention", *RECURRENT),
]


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
@pytest.mark.sampled(2)
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
    for sample in module_samples(info, torch.float64, training=True)[::6]:
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
    native = torch.stack([forward(module, sample, seed)[0] for seed in range(DRAWS)]).detach()
    with fastdrop.accelerated():
        ours = torch.stack([forward(module, sample, seed)[0] for seed in range(DRAWS)]).detach()
    for one, other in ((ours, native), (ours**2, native**2)):
        error = ((one.var(0) + other.var(0)) / DRAWS).sqrt()
        assert (error > 0).any()
        assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error + 1e-12).all()
