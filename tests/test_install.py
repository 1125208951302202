"""install(): every dropout of the process is ours, all else stays torch's, and uninstall() gives everything back."""

import copy
import functools
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import oracle
import pytest
import torch
from exotic_tensors import EXOTIC, elements, kind
from oracle import FLOATS, assert_same_bits, error_of
from processes import run_python
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils import checkpoint as checkpoints
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from watch import Watch

import fastdrop

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # torch's own

P = 0.3
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934
INFINITIES = torch.full((64,), float("inf"))
OPERATORS = [
    *("dropout", "dropout_", "native_dropout", "alpha_dropout", "alpha_dropout_"),
    *("feature_dropout", "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_"),
]
every_operator = pytest.mark.parametrize("name", OPERATORS)

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def uninstalled() -> Iterator[None]:
    yield
    fastdrop.uninstall()
    assert not fastdrop.is_installed()


@pytest.fixture
def installed() -> Iterator[None]:
    with fastdrop.accelerated():
        yield


def call(name: str, x: torch.Tensor, p: Any = P, train: bool | None = True) -> Any:
    """Call one of torch's operators, past its Python functions."""
    return getattr(torch.ops.aten, name).default(x, p, train)


def dropped(name: str, x: torch.Tensor, p: Any = P) -> torch.Tensor:
    y = call(name, x, p)
    return y[0] if name == "native_dropout" else y


def seeds(count: int = 1) -> list[int]:
    """Seed torch, and return the seeds that will be drawn."""
    torch.manual_seed(0)
    drawn = [int(torch.randint(2**63 - 1, ())) for _ in range(count)]
    torch.manual_seed(0)
    return drawn


def reference(name: str, x: torch.Tensor, seed: int, p: float = P) -> torch.Tensor:
    """Return the dropout of x by the published formulas, for autograd too."""
    counted = torch.empty(*x.shape[:2], *[1] * (x.dim() - 2)) if "feature" in name else x
    d = torch.where(oracle.keep(counted, p, seed), 1.0, 0.0).to(x.dtype)
    if "alpha" not in name:
        return x * d / (1 - p)
    q, low = 1 - p, -SELU_ALPHA * SELU_SCALE  # the names of Klambauer et al.: Self-normalizing neural networks
    a = (q + low**2 * q * (1 - q)) ** -0.5
    return a * (x * d + low * (1 - d)) - a * (1 - q) * low


def assert_near(y: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check that y is the float64 `wanted` within some roundings."""
    tolerance = 16 * torch.finfo(y.dtype).eps
    torch.testing.assert_close(y.double(), wanted, rtol=tolerance, atol=tolerance)


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def drops_as_ours(function: Call, x: torch.Tensor = INFINITIES) -> bool:
    """Whether a dropped infinity is 0, as with ours, or NaN, as with native, which multiplies."""
    y = function(x)
    ours, native = bool((y == 0).any()), bool(y.isnan().any())
    assert ours != native
    return ours


def is_ours() -> bool:
    return drops_as_ours(lambda x: F.dropout(x, 0.5))


# Operators


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "matrix, transposed": lambda x: x.flatten(1).t(),
    "sliced": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :, :1].expand(x.shape),
}
MODES = {"recorded": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout) for name in OPERATORS for layout in LAYOUTS if (name[-1], layout) != ("_", "expanded")],
)
def test_operators(name, layout, dtype, mode):
    in_place, make = name.endswith("_"), LAYOUTS[layout]
    leaf = randn(6, 8, 4, 5).to(dtype).requires_grad_()
    wide = leaf.detach().double().requires_grad_()
    with mode():
        native = dropped(name, make(leaf * 1))
        x = make(leaf * 1)
        (seed,) = seeds()
        wanted = reference(name, make(wide * 1), seed)
        with fastdrop.accelerated():
            y = dropped(name, x)
    assert (y is x) == in_place
    assert y.dtype is dtype
    assert y.stride() == native.stride()
    assert y.requires_grad == native.requires_grad == (mode is nullcontext)
    assert y.is_inference() == native.is_inference()
    assert_near(y, wanted)
    if name in ("dropout", "dropout_", "native_dropout"):
        assert_same_bits(y, oracle.dropout(make(leaf.detach()), P, seed))
    if y.requires_grad:
        grad_output = randn(*y.shape).to(dtype)
        (grad,) = torch.autograd.grad(y, leaf, grad_output)
        (grad_wanted,) = torch.autograd.grad(wanted, wide, grad_output.double())
        assert_near(grad, grad_wanted)


@pytest.mark.parametrize("train", [True, None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mask_of_native_dropout(installed, layout, train):
    x = LAYOUTS[layout](randn(6, 8, 4, 5))
    (seed,) = seeds()
    y, mask = torch.native_dropout(x, P, train)
    assert torch.equal(mask, oracle.keep(x, P, seed))
    assert torch.equal(mask, y != 0)


@every_operator
def test_gradients_of_gradients(installed, name):
    def reseeded(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return dropped(name, x * 1)

    x = randn(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(reseeded, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: reseeded(x) ** 2, x, check_fwd_over_rev=True)


@every_operator
def test_tangents_meet_the_mask(installed, name):
    x, tangent = randn(6, 8, 4), randn(6, 8, 4) + 10
    (seed,) = seeds()
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(dropped(name, forward_ad.make_dual(x, tangent) * 1))
        wanted = forward_ad.unpack_dual(reference(name, forward_ad.make_dual(x, tangent), seed))
    torch.testing.assert_close(y.primal, wanted.primal)
    torch.testing.assert_close(y.tangent, wanted.tangent)


@every_operator
def test_two_calls_differ(installed, name):
    x = randn(20, 30)
    assert not torch.equal(dropped(name, x.clone()), dropped(name, x.clone()))


# All that is made of them


def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.jit.script(nn.Sequential(nn.Identity(), nn.Dropout(P)))(x)


def traced(x: torch.Tensor) -> torch.Tensor:
    trace = torch.jit.trace(nn.Dropout(P), torch.ones(3), check_trace=False)
    torch.manual_seed(0)  # again, for the trace has drawn
    return trace(x)


CALLS = {
    "F.dropout": ("dropout", (7, 9), lambda x: F.dropout(x, P)),
    "F.dropout in place": ("dropout", (7, 9), lambda x: F.dropout(x * 1, P, inplace=True)),
    "torch.dropout": ("dropout", (7, 9), lambda x: torch.dropout(x, P, True)),
    "torch.dropout_": ("dropout", (7, 9), lambda x: torch.dropout_(x * 1, P, True)),
    "torch.native_dropout": ("dropout", (7, 9), lambda x: torch.native_dropout(x, P, True)[0]),
    "F.dropout1d": ("feature_dropout", (6, 7, 8), lambda x: F.dropout1d(x, P)),
    "F.dropout1d unbatched": ("feature_dropout", (1, 60, 8), lambda x: F.dropout1d(x[0], P)[None]),
    "F.dropout2d": ("feature_dropout", (6, 7, 3, 2), lambda x: F.dropout2d(x, P)),
    "F.dropout2d in place": ("feature_dropout", (6, 7, 3, 2), lambda x: F.dropout2d(x * 1, P, inplace=True)),
    "F.dropout3d": ("feature_dropout", (6, 7, 3, 2, 2), lambda x: F.dropout3d(x, P)),
    "torch.feature_dropout": ("feature_dropout", (6, 7, 3), lambda x: torch.feature_dropout(x, P, True)),
    "F.alpha_dropout": ("alpha_dropout", (7, 9), lambda x: F.alpha_dropout(x, P, True)),
    "F.alpha_dropout in place": ("alpha_dropout", (7, 9), lambda x: F.alpha_dropout(x * 1, P, True, inplace=True)),
    "F.feature_alpha_dropout": ("feature_alpha_dropout", (6, 7, 3), lambda x: F.feature_alpha_dropout(x, P, True)),
    "nn.Dropout": ("dropout", (7, 9), nn.Dropout(P)),
    "nn.Dropout1d": ("feature_dropout", (6, 7, 3), nn.Dropout1d(P)),
    "nn.Dropout2d": ("feature_dropout", (6, 7, 3, 2), nn.Dropout2d(P)),
    "nn.Dropout3d": ("feature_dropout", (6, 7, 3, 2, 2), nn.Dropout3d(P)),
    "nn.AlphaDropout": ("alpha_dropout", (7, 9), nn.AlphaDropout(P)),
    "nn.FeatureAlphaDropout": ("feature_alpha_dropout", (6, 7, 3), nn.FeatureAlphaDropout(P)),
    "scripted": ("dropout", (7, 9), scripted),
    "traced": ("dropout", (7, 9), traced),
    "checkpoint": ("dropout", (7, 9), lambda x: checkpoint(nn.Dropout(P), x, use_reentrant=False)),
    "reentrant checkpoint": ("dropout", (7, 9), lambda x: checkpoint(nn.Dropout(P), x, use_reentrant=True)),
    "deepcopy": ("dropout", (7, 9), lambda x: copy.deepcopy(nn.Dropout(P))(x)),
    "pickle": ("dropout", (7, 9), lambda x: pickle.loads(pickle.dumps(nn.Dropout(P)))(x)),
}


def assert_agree(y: torch.Tensor, wanted: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Check values and gradients."""
    torch.testing.assert_close(y, wanted)
    grad_output = randn(*y.shape)
    gradients = (torch.autograd.grad(result, inputs, grad_output, retain_graph=True) for result in (y, wanted))
    for grad, grad_wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(grad, grad_wanted)


@pytest.mark.parametrize(("name", "shape", "function"), CALLS.values(), ids=CALLS)
def test_functions_and_modules(installed, name, shape, function):
    x = randn(*shape).requires_grad_()
    (seed,) = seeds()
    # Not torch.autograd.grad, which a reentrant checkpoint refuses.
    y, grad_output = function(x), randn(*shape)
    y.backward(grad_output)
    wanted = reference(name, x, seed)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(x.grad, torch.autograd.grad(wanted, x, grad_output)[0])


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seed: int) -> torch.Tensor:
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return reference("dropout", weights, seed) @ v


def self_attention(layer: nn.MultiheadAttention, x: torch.Tensor, seed: int) -> torch.Tensor:
    projected = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    heads = attention(*(part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in projected), seed)
    y = layer.out_proj(heads.transpose(1, 2).flatten(2))
    return y.transpose(0, 1).contiguous().transpose(0, 1)  # as torch's, whose mask follows memory: length first


def test_scaled_dot_product_attention(installed):
    q, k, v = (randn(2, 3, length, 8).requires_grad_() for length in (5, 6, 6))
    (seed,) = seeds()
    assert_agree(F.scaled_dot_product_attention(q, k, v, dropout_p=P), attention(q, k, v, seed), [q, k, v])


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(installed, need_weights):
    layer = nn.MultiheadAttention(12, 3, dropout=P, batch_first=True, dtype=torch.float64)
    x = randn(4, 7, 12).requires_grad_()
    (seed,) = seeds()
    y, _ = layer(x, x, x, need_weights=need_weights)
    assert_agree(y, self_attention(layer, x, seed), [x, *layer.parameters()])


def test_transformer_encoder_layer(installed):
    layer = nn.TransformerEncoderLayer(12, 3, 20, P, batch_first=True, dtype=torch.float64)
    x = randn(4, 7, 12).requires_grad_()
    drop = functools.partial(reference, "dropout")
    one, two, three, four = seeds(4)
    attended = layer.norm1(x + drop(self_attention(layer.self_attn, x, one), two))
    fed = layer.linear2(drop(layer.linear1(attended).relu(), three))
    wanted = layer.norm2(attended + drop(fed, four))
    assert_agree(layer(x), wanted, [x, *layer.parameters()])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers_of_recurrent_networks(installed, cls, bidirectional):
    model = cls(3, 5, num_layers=2, dropout=P, bidirectional=bidirectional, dtype=torch.float64)
    sizes = (3, 10 if bidirectional else 5)
    layers = [cls(size, 5, bidirectional=bidirectional, dtype=torch.float64) for size in sizes]
    for i, layer in enumerate(layers):
        weights = {key: value for key, value in model.state_dict().items() if f"_l{i}" in key}
        layer.load_state_dict({key.replace(f"_l{i}", "_l0"): value for key, value in weights.items()})
    x = randn(6, 4, 3).requires_grad_()
    (seed,) = seeds()
    wanted = layers[1](reference("dropout", layers[0](x)[0], seed))[0]
    assert_agree(model(x)[0], wanted, [x])


def test_scripted_and_traced_models_from_before():
    script = torch.jit.script(nn.Sequential(nn.Dropout(0.5)))
    trace = torch.jit.trace(nn.Dropout(0.5), torch.ones(3), check_trace=False)
    leaf = INFINITIES.clone().requires_grad_()
    for model in (script, trace):
        assert not drops_as_ours(model)
        with fastdrop.accelerated():
            assert all(drops_as_ours(model, x) for x in (INFINITIES, leaf) for _ in range(3))  # it optimizes then
        assert not drops_as_ours(model)


def test_trace_made_when_installed_holds_torchs_operator():
    with fastdrop.accelerated():
        trace = torch.jit.trace(nn.Dropout(0.5), torch.ones(3), check_trace=False)
        assert "aten::dropout" in str(trace.graph) and "fastdrop" not in str(trace.graph)
        assert drops_as_ours(trace)
    assert not drops_as_ours(trace)


# Handed over


MAKERS = EXOTIC | {
    "quantized by channel": lambda: torch.quantize_per_channel(
        torch.ones(3, 4), torch.ones(3), torch.zeros(3), 0, torch.qint8
    ),
    **{
        str(dtype): functools.partial(torch.ones, 3, 40, dtype=dtype)
        for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.complex128)
    },
    "float8": lambda: torch.ones(3, 40).to(torch.float8_e4m3fn),
    "conjugate": lambda: torch.ones(3, 40, dtype=torch.complex64).conj(),
    "expanded": lambda: torch.ones(3, 1).expand(3, 40),
    "1-D": lambda: torch.ones(40),
    "0-D": lambda: torch.tensor(1.0),
    "empty": lambda: torch.ones(3, 0),
    "parameter": lambda: nn.Parameter(torch.ones(3, 40)),
}
ARGUMENTS = [*((p, True) for p in (0.5, 0.0, 1.0, 1.1, float("nan"))), (0.5, False), (-0.1, False)]
NAMES_OF_PLAIN = {"parameter", "leaf", "view of a leaf", "multi-view", "inference", "view made in no_grad", "expanded"}


def outcome(function: Call) -> Any:
    """All there is to tell of a function's result, or its error."""
    torch.manual_seed(0)
    try:
        results = function()
    except Exception as error:  # whatever it is: it is compared with native's
        return type(error).__name__, str(error).split("\n")[0]  # further lines list where kernels were registered
    return [
        (kind(y), None if y.is_nested or y.layout is not torch.strided else y.stride(), y.grad_fn is None, elements(y))
        if isinstance(y, torch.Tensor)
        else y
        for y in torch.utils._pytree.tree_leaves(results)
    ]


def without_masks(result: Any) -> Any:
    """Return an outcome with the values that occur in each tensor in place of its elements."""
    if not isinstance(result, list):
        return result
    return [(*y[:-1], {round(each, 3) for each in y[-1]}) if isinstance(y, tuple) else y for y in result]


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors|is deprecated|quantize):UserWarning")  # of the makers
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.parametrize("maker", MAKERS)
@every_operator
def test_handed_over(name, maker):
    def function() -> Any:
        x = MAKERS[maker]()
        y = call(name, x, p, train)
        return y, y is x

    for p, train in ARGUMENTS:
        native = outcome(function)
        with fastdrop.accelerated():
            ours = outcome(function)
        # Plain tensors' masks are ours, and those of what is around a plain one that is dropped in its turn.
        is_ours = maker in NAMES_OF_PLAIN or (maker == "1-D" and "feature" not in name)
        is_ours |= maker in ("nested", "jagged") and name in ("dropout", "native_dropout")
        is_ours |= maker == "wrapper" and name == "native_dropout"
        if is_ours and (p, train) == (0.5, True):
            native, ours = without_masks(native), without_masks(ours)
        if (maker, p) == ("coo", 1) and isinstance(native, list):
            native, ours = native[0][:-1], ours[0][:-1]  # native's elements are what was in memory before
        assert ours == native, (p, train)


@pytest.mark.parametrize(("p", "train"), [(0.0, True), (1.0, True), (0.5, False), (1.0, False)])
@pytest.mark.parametrize("dtype", FLOATS)
@every_operator
def test_what_is_not_random_is_natives_bit_for_bit(name, dtype, p, train):
    def results() -> tuple[bool, list[torch.Tensor]]:
        x = torch.tensor([[1.5, -1.5, 0.0, -0.0], [float("inf"), -float("inf"), float("nan"), 1e-3]], dtype=dtype)
        y = call(name, x, p, train)
        return y is x, torch.utils._pytree.tree_leaves(y)

    same_object, native = results()
    with fastdrop.accelerated():
        assert results()[0] == same_object
        for y, wanted in zip(results()[1], native, strict=True):
            if wanted.dtype is torch.bool:  # the mask of native_dropout
                assert torch.equal(y, wanted)
            else:
                assert_same_bits(y, wanted)


@every_operator
def test_errors_are_natives(name):
    x = torch.ones(2, 3)
    for args in [("a", 0.5, True), (x, "a", True), (x, None, True), (x, 0.5, "a"), (x,), (x, 0.5, True, 3)]:
        wanted = error_of(lambda args=args: getattr(torch.ops.aten, name).default(*args))
        assert wanted is not None
        with fastdrop.accelerated():
            assert error_of(lambda args=args: getattr(torch.ops.aten, name).default(*args)) == wanted


def transforms(function: Call) -> dict[str, Call]:
    """Return calls of torch.func's transforms of a function."""
    x = randn(3, 4, 5)

    def total(x: torch.Tensor) -> torch.Tensor:
        return function(x).sum()

    return {
        "error": lambda: torch.vmap(function)(x),
        "same": lambda: torch.vmap(function, randomness="same")(x),
        "different": lambda: torch.vmap(function, randomness="different")(x),
        "unbatched": lambda: torch.vmap(lambda i: i * function(randn(4, 5)), randomness="different")(torch.ones(3)),
        "grad": lambda: torch.func.grad(total)(x),
        "jvp": lambda: torch.func.jvp(function, (x,), (x,)),
        "vmap of grad": lambda: torch.vmap(torch.func.grad(total), randomness="different")(x),
        "jacrev": lambda: torch.func.jacrev(function)(x[0]),
        "functionalize": lambda: torch.func.functionalize(function)(x),
    }


@every_operator
def test_transforms(name):
    for what, function in transforms(lambda x: dropped(name, x * 1)).items():
        native = outcome(function)
        with fastdrop.accelerated():
            ours = outcome(function)
        if name == "native_dropout" and isinstance(native, list):  # below the transform it meets a plain tensor
            native, ours = ([each[:-1] for each in result] for result in (native, ours))
        assert ours == native, what


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # torch's own
@every_operator
def test_linearized(installed, name):
    x = randn(3, 4, 5)
    y, tangent_of = torch.func.linearize(lambda x: dropped(name, x * 1), x)  # with masks of their own, as native's are
    for result in (y, tangent_of(x)):
        assert 0 < (result == result.flatten().mode().values).sum() < x.numel()


class Copies(TorchDispatchMode):
    """Copy what each operator returns when it does, and so not what a kernel writes there later."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Copy it."""
        result = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves(result)
        self.seen += [each.clone() for each in leaves if isinstance(each, torch.Tensor)]
        return result


@every_operator
def test_dispatch_modes_see_operators_and_get_the_same_mask(installed, name):
    x = randn(3, 4).requires_grad_()
    results = []
    for mode in (nullcontext(), copies := Copies()):
        torch.manual_seed(0)
        with mode:
            y = dropped(name, x * 1)
        results.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert torch.equal(copies.seen[-2 if name == "native_dropout" else -1], y)  # its last result is a mask
    assert all(each.dtype is not torch.int64 for each in copies.seen)  # seeds are none of its business


def test_dispatch_mode_around_a_tangent(installed):
    x = randn(30, 4)
    with forward_ad.dual_level(), Watch():
        y = forward_ad.unpack_dual(torch.native_dropout(forward_ad.make_dual(x, 2 * x), P, True)[0])
    assert torch.equal(y.tangent, 2 * y.primal)


# Where and how torch runs


@pytest.mark.parametrize("dtype", FLOATS)
@every_operator
def test_autocast(name, dtype):
    x = randn(3, 4).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        native = dropped(name, x.clone())
        (seed,) = seeds()
        with fastdrop.accelerated():
            y = dropped(name, x.clone())
    assert y.dtype is native.dtype
    assert_near(y, reference(name, x.double(), seed))


@every_operator
def test_fake_tensor_mode(installed, name):
    with FakeTensorMode() as mode:
        inside = dropped(name, torch.ones(3, 4))
    outside = dropped(name, mode.from_tensor(torch.ones(3, 4)))
    for y in (inside, outside):
        assert type(y) is FakeTensor and (y.shape, y.dtype, y.stride()) == ((3, 4), torch.float32, (4, 1))
    (seed,) = seeds()
    assert_same_bits(F.dropout(torch.ones(99), P), oracle.dropout(torch.ones(99), P, seed))


@pytest.mark.parametrize("mode", [Watch, lambda: torch.device("meta"), FakeTensorMode])
def test_first_draw_of_a_thread_in_a_mode_spoils_no_later_one(installed, mode):
    results = []

    def work() -> None:
        with mode():
            for name in OPERATORS:
                dropped(name, torch.ones(3, 4))
        results.extend(F.dropout(torch.ones(200), 0.5) for _ in range(2))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    one, two = (set(y.tolist()) for y in results)
    assert one == two == {0.0, 2.0}
    assert not torch.equal(*results)


SQUARES = {name: (lambda x, name=name: dropped(name, x * 1) ** 2) for name in OPERATORS}


def assert_gradient_of_square(y: torch.Tensor, grad: torch.Tensor, x: torch.Tensor) -> None:
    """Check that y is the square of what is linear in x where the gradient is not 0, and otherwise the same all over.

    So it can be told from one mask or from two.
    """
    kept = grad != 0
    assert 0 < kept.sum() < kept.numel()
    assert len(y[~kept].unique()) == 1
    torch.testing.assert_close((grad**2 / y)[kept], (grad**2 / y)[kept][:1].expand_as(y[kept]))


@pytest.mark.parametrize("watched", [nullcontext, lambda: FlopCounterMode(display=False)], ids=["plain", "watched"])
@pytest.mark.parametrize("form", ["reentrant", "not reentrant", "selective"])
@pytest.mark.parametrize("name", SQUARES)
def test_checkpoint_repeats_its_mask(installed, name, form, watched):
    """A mode may be on in the backward only: the second run has to give the first one's mask."""
    x = randn(6, 7, 4).requires_grad_()
    how: dict[str, Any] = {"use_reentrant": form == "reentrant"}
    if form == "selective":
        how["context_fn"] = functools.partial(
            checkpoints.create_selective_checkpoint_contexts, [torch.ops.aten.mm.default]
        )
    y = checkpoint(SQUARES[name], x, **how)
    with watched():
        y.sum().backward()
    assert_gradient_of_square(y.detach(), x.grad, x.detach())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_is_installed(installed):
    x = torch.randn(100_000)
    (seed,) = seeds()
    wanted = oracle.dropout(x, P, seed)
    assert_same_bits(F.dropout(x, P), wanted)
    child = os.fork()
    if child == 0:
        torch.manual_seed(0)
        right = (F.dropout(x, P).numpy() == wanted.numpy()).all()  # without OpenMP, which a fork may break
        fastdrop.uninstall()
        os._exit(0 if right and fastdrop.is_installed() else 1)  # the block goes on
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


class Dropped(torch.utils.data.Dataset):
    """Item i is the dropout of infinities."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return F.dropout(INFINITIES, 0.5)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_dataloader_workers_are_installed(installed):
    loader = torch.utils.data.DataLoader(Dropped(), num_workers=2, batch_size=None, multiprocessing_context="fork")
    items = list(loader)
    assert all(drops_as_ours(lambda x, item=item: item) for item in items)
    assert len({tuple(item.tolist()) for item in items}) == 4


def test_models_are_copied_and_saved_as_before(installed):
    model = nn.TransformerEncoderLayer(4, 2, 8, P)
    assert [type(each) for each in copy.deepcopy(model).modules()] == [type(each) for each in model.modules()]
    assert b"fastdrop" not in pickle.dumps(model)
    assert type(pickle.loads(pickle.dumps(nn.Dropout(P)))) is nn.Dropout


# torch.compile


COMPILED = """
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional as F

graphs = []

def keep(graph, example_inputs):
    graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
    return graph

FUNCTIONS = {
    "F.dropout": lambda x: F.dropout(x, 0.3) + F.dropout(x, 0.3),
    "in place": lambda x: F.dropout(x * 1, 0.3, inplace=True),
    "alpha": lambda x: F.alpha_dropout(x, 0.3, True),
    "2d": lambda x: F.dropout2d(x, 0.3),
    "native": lambda x: torch.native_dropout(x, 0.3, True)[0],
}

def compiled():
    torch._dynamo.reset()
    del graphs[:]
    backend = aot_autograd(fw_compiler=keep)
    functions = {name: torch.compile(f, backend=backend, fullgraph=True) for name, f in FUNCTIONS.items()}
    results = {name: run(functions, name) for name in FUNCTIONS}
    return functions, results, dict(zip(FUNCTIONS, map(list, graphs), strict=True))

def run(functions, name):
    torch.manual_seed(0)
    return functions[name](torch.ones(3, 4, 5, 6))

def same(results, others, names=FUNCTIONS):
    return all(torch.equal(results[name], others[name]) for name in names)

functions, native, graphs_of_native = compiled()
import fastdrop
fastdrop.install()
results = {name: run(functions, name) for name in FUNCTIONS}
assert len(graphs) == len(FUNCTIONS), "code from before is compiled again"
# These graphs call native_dropout, an operator that is ours now; a compiler that generates code would not call it.
calling = {name for name in FUNCTIONS if "aten.native_dropout.default" in graphs_of_native[name]}
assert calling == {"F.dropout", "native"}
assert same(results, native, FUNCTIONS.keys() - calling), "code from before the installation changed"
functions, ours, graphs_of_ours = compiled()
eager = {name: run(FUNCTIONS, name) for name in FUNCTIONS}
assert graphs_of_ours["F.dropout"].count("fastdrop.dropout.default") == 2
assert graphs_of_ours["in place"].count("fastdrop.dropout.default") == 1
assert same(ours, eager, ["F.dropout", "in place"])  # so the two masks of one graph differ too
assert not torch.equal(functions["F.dropout"](torch.ones(3, 4, 5, 6)), ours["F.dropout"])
fastdrop.uninstall()
assert same({name: run(functions, name) for name in ["in place"]}, ours, ["in place"]), "compiled code stays"
_, again, graphs_again = compiled()
assert graphs_again == graphs_of_native
assert same(again, native)
print("ok")
"""


def test_compiled_code():
    # In a process of its own, which begins as one that never had anything installed.
    assert run_python(COMPILED) == "ok"


CACHED = """
import torch
from torch._dynamo.utils import counters

def compiled():
    torch._dynamo.reset()
    counters.clear()
    # Random numbers left to torch spare a C++ compiler's time.
    function = torch.compile(lambda x: torch.nn.functional.dropout(x, 0.5), options={"fallback_random": True})
    y = function(torch.full((64,), float("inf")))
    assert bool((y == 0).any()) != bool(y.isnan().any())
    return "ours" if (y == 0).any() else "native", "cached" if counters["aot_autograd"]["autograd_cache_hit"] else "new"

"""


def test_compiled_code_that_torch_keeps_on_disk(tmp_path):
    def run(*code: str) -> str:
        return run_python(CACHED + "\n".join(code), TORCHINDUCTOR_CACHE_DIR=str(tmp_path))

    assert run("print(*compiled())") == "native new"
    install, uninstall = "import fastdrop; fastdrop.install()", "fastdrop.uninstall()"
    line = "print(*compiled())"
    answers = run(install, line, line, uninstall, line).split("\n")
    assert answers == ["ours new", "ours cached", "native cached"]


@pytest.mark.parametrize("tag", ["", "mine"])
def test_tag_of_torchs_cache_is_given_back(tag):
    config = torch.compiler.config
    with config.patch(cache_key_tag=tag):
        for _ in range(2):
            with fastdrop.accelerated():
                fastdrop.install()
                assert config.cache_key_tag.startswith(tag) and config.cache_key_tag != tag
            fastdrop.uninstall()
            assert config.cache_key_tag == tag


# State


def test_install_and_uninstall():
    assert not fastdrop.is_installed() and not is_ours()
    fastdrop.uninstall()
    for change, installed in [
        (fastdrop.install, True),
        (fastdrop.install, True),
        (fastdrop.uninstall, False),
        (fastdrop.uninstall, False),
        (fastdrop.install, True),
        (fastdrop.uninstall, False),
    ]:
        change()
        assert fastdrop.is_installed() == is_ours() == installed


def test_nested_blocks():
    with fastdrop.accelerated():
        with fastdrop.accelerated():
            assert fastdrop.is_installed() and is_ours()
        assert fastdrop.is_installed() and is_ours()
    assert not fastdrop.is_installed() and not is_ours()


def test_blocks_and_install():
    fastdrop.install()
    with fastdrop.accelerated():
        assert is_ours()
    assert fastdrop.is_installed() and is_ours()
    with fastdrop.accelerated():
        fastdrop.uninstall()
        assert fastdrop.is_installed() and is_ours()
    assert not fastdrop.is_installed() and not is_ours()
    with fastdrop.accelerated():
        fastdrop.install()
    assert fastdrop.is_installed() and is_ours()


def test_errors_end_a_block():
    with pytest.raises(ZeroDivisionError), fastdrop.accelerated():
        assert is_ours()
        raise ZeroDivisionError
    assert not fastdrop.is_installed() and not is_ours()


def test_block_as_a_decorator():
    for _ in range(2):
        assert fastdrop.accelerated()(is_ours)()
        assert not is_ours()


def test_blocks_overlap_in_threads():
    entered, left = threading.Event(), threading.Event()

    def work() -> None:
        with fastdrop.accelerated():
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=work)
    with fastdrop.accelerated():
        thread.start()
        assert entered.wait(60)
    assert fastdrop.is_installed() and is_ours()
    left.set()
    thread.join()
    assert not fastdrop.is_installed() and not is_ours()


LIFE = """
import os
os.dup2(1, 2)  # what goes to stderr is to be seen
import torch, warnings
warnings.simplefilter("always")
import torch._inductor.config, torch._meta_registrations  # what import fastdrop may import of torch, and they change

def dispatcher():
    names = [name for name in torch._C._dispatch_get_all_op_names() if not name.startswith("fastdrop::")]
    return {name: torch._C._dispatch_dump(name) for name in names}

OPERATORS = OPERATORS_HERE
SHAPES = [(3, 40), (5, 60, 7, 8)]  # bernoulli_ leaves the first to torch

def draw(x, name):
    torch.manual_seed(0)
    if name == "bernoulli_":
        return x.bernoulli_(0.3)
    y = getattr(torch.ops.aten, name).default(x, 0.3, True)
    return torch.cat([part.flatten() for part in y]) if name == "native_dropout" else y

def masks():
    make = lambda grad, shape: torch.ones(shape, requires_grad=grad) * 1
    found = [draw(make(grad, shape), name) for name in OPERATORS for grad in (False, True) for shape in SHAPES]
    with torch.inference_mode():
        found += [draw(make(False, shape), name) for name in OPERATORS for shape in SHAPES]
    return found

def equal(some, others):
    return [torch.equal(x, y) for x, y in zip(some, others, strict=True)]

native, kernels, LAST = masks(), dispatcher(), 4 * (len(OPERATORS) - 1)
import fastdrop
assert dispatcher() == kernels, "import alone changes operators"
assert all(equal(masks(), native))
for bernoulli in (False, True, False):
    fastdrop.install(bernoulli=bernoulli)
    changed = equal(masks(), native)
    assert not any(changed[:LAST] + changed[LAST + 4 : -2]), changed
    assert changed[LAST : LAST + 4] == [True, not bernoulli] * 2
    assert changed[-2:] == [True, not bernoulli]
    fastdrop.uninstall()
    assert all(equal(masks(), native))
fastdrop.install()  # it ends so, and says nothing
""".replace("OPERATORS_HERE", str([*OPERATORS, "bernoulli_"]))


def test_uninstall_gives_natives_masks_back_bit_for_bit():
    assert run_python(LIFE) == ""


QUIET = """
import os
os.dup2(1, 2)  # what goes to stderr is to be seen
import threading, torch, warnings
warnings.simplefilter("always")
import fastdrop
fastdrop.install(bernoulli=True)

def work():
    for _ in range(20):
        torch.nn.functional.dropout(torch.ones(100_000, requires_grad=True), 0.1).sum().backward()

work()
for _ in range(4):
    threading.Thread(target=work).start()
"""


def test_a_process_that_ends_installed_with_threads_says_nothing():
    assert run_python(QUIET) == ""


TOGGLED = """
import threading, time, torch
from torch import nn
import fastdrop

SECONDS = 3
torch.set_num_threads(1)
end, failures, seen = time.monotonic() + SECONDS, [], set()
script = torch.jit.script(nn.Sequential(nn.Identity(), nn.Dropout(0.5)))
lstm = nn.LSTM(4, 8, num_layers=2, dropout=0.5)
x, infinities = torch.randn(5, 3, 4), torch.full((64,), float("inf"))

def dropouts():
    leaf = torch.ones(500, requires_grad=True)
    for function in (lambda x: nn.functional.dropout(x, 0.5), lambda x: torch.native_dropout(x, 0.5, True)[0]):
        y = function(leaf * 1)
        (grad,) = torch.autograd.grad(y.sum(), leaf)
        assert torch.equal(y, grad) and set(y.tolist()) == {0.0, 2.0}, y
    y = nn.functional.dropout(infinities, 0.5)
    seen.add("ours" if (y == 0).any() else "native")
    assert y.isinf().any() and bool((y == 0).any()) != bool(y.isnan().any())

def channels():
    y = nn.functional.dropout2d(torch.ones(5, 50, 2, 2, requires_grad=True), 0.5)
    assert set(y.flatten().tolist()) == {0.0, 2.0}
    assert len(nn.functional.alpha_dropout(torch.ones(500), 0.5, True).unique()) == 2
    assert set(torch.empty(4096).bernoulli_(0.5).tolist()) == {0.0, 1.0}

def recurrent():
    y, _ = lstm(x)
    y.sum().backward()
    assert y.isfinite().all() and (y.abs() < 1).all()

def scripted():
    for leaf in (torch.ones(500), torch.ones(500, requires_grad=True)):
        assert set(script(leaf).tolist()) == {0.0, 2.0}

def work(function):
    try:
        while time.monotonic() < end:
            function()
    except BaseException as error:
        failures.append(repr(error))

def toggle():
    while time.monotonic() < end:
        with fastdrop.accelerated(bernoulli=True):
            time.sleep(0.001)
            fastdrop.install()
        fastdrop.uninstall()
        time.sleep(0.001)

threads = [threading.Thread(target=work, args=(f,)) for f in (dropouts, channels, recurrent, scripted)]
threads += [threading.Thread(target=toggle) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failures, sorted(seen), fastdrop.is_installed())
"""


def test_installing_while_other_threads_drop():
    # In a process of its own, for it once crashed.
    assert run_python(TOGGLED) == "[] ['native', 'ours'] False"


# bernoulli_


@pytest.fixture
def bernoulli() -> Iterator[None]:
    with fastdrop.accelerated(bernoulli=True):
        yield


def bernoulli_is_ours() -> bool:
    (seed,) = seeds()
    return torch.equal(torch.empty(4096).bernoulli_(0.3).bool(), oracle.keep(torch.empty(4096), 0.7, seed))


def test_bernoulli_comes_and_goes():
    assert not bernoulli_is_ours()
    fastdrop.install()
    assert not bernoulli_is_ours()
    fastdrop.install(bernoulli=True)
    assert bernoulli_is_ours() and is_ours()
    fastdrop.install()
    assert not bernoulli_is_ours() and is_ours()
    with fastdrop.accelerated():
        with fastdrop.accelerated(bernoulli=True):
            assert bernoulli_is_ours()
        assert not bernoulli_is_ours() and is_ours()
    fastdrop.uninstall()
    assert not is_ours()


DTYPES = [*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
BERNOULLI_LAYOUTS = LAYOUTS | {"transposed": lambda x: x.transpose(0, 3)}
del BERNOULLI_LAYOUTS["expanded"]


@pytest.mark.parametrize("layout", BERNOULLI_LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli(bernoulli, dtype, layout):
    x = BERNOULLI_LAYOUTS[layout](torch.full((20, 30, 4, 5), 7.0).to(dtype))
    strides = x.stride()
    (seed,) = seeds()
    assert x.bernoulli_(P) is x
    assert x.stride() == strides and x.dtype is dtype
    assert torch.equal(x.double(), oracle.keep(x, 1 - P, seed).double())


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
def test_rate_of_bernoulli(bernoulli, p):
    n = 1_000_000
    torch.manual_seed(0)
    for x in (torch.empty(n).bernoulli_(p), torch.bernoulli(torch.empty(n), p)):
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert abs(int(x.sum()) - n * p) < 4 * (n * p * (1 - p)) ** 0.5


def test_generator_of_bernoulli(bernoulli):
    def draw(seed: int) -> torch.Tensor:
        return torch.empty(4096).bernoulli_(P, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), after)  # the default generator has given nothing
    generator = torch.Generator()
    assert not torch.equal(*(torch.empty(4096).bernoulli_(P, generator=generator) for _ in range(2)))


def bernoulli_outcomes(function: Call) -> tuple[Any, Any]:
    native = outcome(function)
    with fastdrop.accelerated(bernoulli=True):
        return outcome(function), native


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.1, float("nan"), "a", None, torch.tensor(0.3), torch.full((4096,), P)])
def test_other_p_of_bernoulli(p):
    ours, native = bernoulli_outcomes(lambda: torch.zeros(4096).bernoulli_(p))
    assert ours == native


def test_bernoulli_of_small_tensors_is_natives():
    ours, native = bernoulli_outcomes(lambda: torch.zeros(64).bernoulli_(P))
    assert ours == native


LARGE = {
    **{str(dtype): functools.partial(torch.zeros, 4096, dtype=dtype) for dtype in (torch.complex64, torch.uint16)},
    "float8": lambda: torch.zeros(4096).to(torch.float8_e4m3fn),
    "meta": lambda: torch.zeros(4096, device="meta"),
    "sparse": lambda: torch.zeros(64, 64).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4096), 0.1, 0, torch.quint8),
    "expanded": lambda: torch.zeros(1).expand(4096),
    "leaf": lambda: torch.zeros(4096, requires_grad=True),
}


@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_bernoulli_hands_over(make):
    ours, native = bernoulli_outcomes(lambda: make().bernoulli_(P))
    assert ours == native


def test_bernoulli_keeps_subclasses(bernoulli):
    cls = type(EXOTIC["subclass"]())
    x = torch.full((4096,), 7.0).as_subclass(cls)
    assert x.bernoulli_(P) is x and type(x) is cls
    assert set(x.tolist()) == {0.0, 1.0}


def test_bernoulli_of_fake_tensors(bernoulli):
    with FakeTensorMode():
        assert type(torch.empty(4096).bernoulli_(P)) is FakeTensor
        assert type(F.dropout2d(torch.empty(64, 64, 2, 2), P)) is FakeTensor


def test_dispatch_mode_sees_bernoulli():
    names = []

    class Names(TorchDispatchMode):
        """Write down each operator."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            """Write it down."""
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    for block in (nullcontext, functools.partial(fastdrop.accelerated, bernoulli=True)):
        x = torch.empty(4096)
        with block(), Names():
            x.bernoulli_(P)
    assert names == ["aten.bernoulli_.float"] * 2


def test_gradient_of_bernoulli(bernoulli):
    x = torch.ones(4096, requires_grad=True)
    (grad,) = torch.autograd.grad((x * 1).bernoulli_(P).sum(), x)
    assert not grad.any()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # Dynamo asks
@pytest.mark.parametrize("function", [lambda x: x * torch.empty_like(x).bernoulli_(P), lambda x: F.dropout2d(x, P)])
def test_bernoulli_in_compiled_code_stays_random(bernoulli, function):
    torch._dynamo.reset()
    run = torch.compile(function, backend="aot_eager", fullgraph=True)
    x = torch.ones(64, 64, 1, 1)
    first, second = run(x), run(x)
    torch._dynamo.reset()
    assert len(first.unique()) == len(second.unique()) == 2
    assert not torch.equal(first, second)
