"""What compiled, traced and exported code of every variant must give: the masks of eager code, from one graph."""

from functools import partial
from typing import Any

import pytest
import torch
from family_cases import CASES, EVERY_SHAPE, P, in_place
from graphs import INDUCTOR, MARKS
from oracle import assert_same_bits
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

import fastdrop

pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore:dropout.d. Received a:UserWarning")]

SEED = 2**63 + 5
IN_PLACE = in_place(EVERY_SHAPE)
every_variant = pytest.mark.parametrize("name", EVERY_SHAPE)
# Those whose graphs are made by every kind of loop: of elements, runs, rows, noise and masks that are made first.
BY_INDUCTOR = ("dropout2d, channels last", "feature_alpha_dropout", "gaussian_dropout")
GROWING = [name for name, case in EVERY_SHAPE.items() if case.noise and "mask" not in name]


def seeded(function: Any, *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "aot_eager") for name in EVERY_SHAPE),
        *(pytest.param(name, *INDUCTOR.values, marks=INDUCTOR.marks) for name in BY_INDUCTOR),
    ],
)
@pytest.mark.sampled(3)
def test_compiled_code_computes_what_eager_code_does(name, backend):
    case = EVERY_SHAPE[name]

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        call = case.function
        results = [call(x), call(x * 2), call(x, seed=SEED, offset=3)]
        return [*results, call(x * 1, inplace=True)] if name in IN_PLACE else results

    x = case.input(torch.float64).requires_grad_()
    wanted = seeded(run, x)
    state = torch.get_rng_state()
    got = seeded(torch.compile(run, backend=backend, fullgraph=True), x)
    assert torch.equal(torch.get_rng_state(), state)
    if case.noise != (1, 1, 1):  # of which two draws may well be the same
        assert not torch.equal(got[0] * 2, got[1]), "two calls draw two masks"
    for one, other in zip(got, wanted, strict=True):
        assert_same_bits(one, other)
        assert one.stride() == other.stride()
    grad_outputs = [torch.randn_like(y) for y in got]
    gradients = [torch.autograd.grad(results, x, grad_outputs)[0] for results in (got, wanted)]
    if backend == "inductor":
        torch.testing.assert_close(*gradients)  # which adds the results' gradients in an order of its own
    else:
        assert_same_bits(*gradients)
    assert gradients[0].any()


@pytest.mark.parametrize("name", [name for name, case in EVERY_SHAPE.items() if case.noise])
@pytest.mark.sampled(3)
def test_compiled_code_keeps_the_seed_alone(name):
    case = EVERY_SHAPE[name]
    x = case.input().requires_grad_()
    y = torch.compile(case.function, backend="aot_eager", fullgraph=True)(x)
    assert [(one.numel(), one.dtype) for one in y.grad_fn.saved_tensors] == [(1, torch.int64)]


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.sampled(3)
def test_one_graph_for_all_sizes(name):
    case = EVERY_SHAPE[name]
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(partial(case.function, seed=SEED), backend=counter, fullgraph=True, dynamic=True)
    counts = set()
    for times in (1, 2, 3):
        x = torch.cat([torch.cat([case.input()] * times, 0)] * (times + 1), -1).requires_grad_()
        y = call(x)
        assert_same_bits(y, case.function(x, seed=SEED))
        grad_output = torch.randn_like(x)
        wanted = torch.autograd.grad(case.function(x, seed=SEED), x, grad_output)[0]
        assert_same_bits(torch.autograd.grad(y, x, grad_output)[0], wanted)
        counts.add(counter.frame_count)
    assert len(counts) == 1


@pytest.mark.parametrize("name", [name for name, case in EVERY_SHAPE.items() if case.noise and name != "dropout_add"])
@pytest.mark.sampled(3)
def test_operator(name):
    case = EVERY_SHAPE[name]
    noise = None if case.noise == case.shape else case.noise
    args = case.input().requires_grad_(), P, torch.tensor(5), 3, None, noise, case.formula.replace("mask", "dropout")
    torch.library.opcheck(torch.ops.fastdrop.dropout.default, args)


@every_variant
def test_a_traced_graph_has_the_keys_mask(name):
    case = EVERY_SHAPE[name]
    x, call = case.input(), partial(case.function, seed=SEED)
    assert_same_bits(make_fx(call)(x)(x), call(x))


class Layer(torch.nn.Module):
    """A variant as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize("name", list({case.forward: name for name, case in CASES.items()}.values()))
@pytest.mark.sampled(2)
def test_an_exported_program_with_a_key_has_its_mask(name):
    case = EVERY_SHAPE[name]
    x, call = case.input(), partial(case.function, seed=SEED)
    program = torch.export.export(Layer(call), (x,))
    assert_same_bits(program.module()(x), call(x))


def test_compilation_warns_as_with_native():
    x, warned = torch.ones(2, 3, 4), []
    for function in (torch.nn.functional.dropout2d, fastdrop.functional.dropout2d):
        with pytest.warns(UserWarning, match="dropout2d: ") as caught:
            torch.compile(lambda x, drop=function: drop(x, P), backend="aot_eager", fullgraph=True)(x)
        warned.append({str(one.message) for one in caught})
    assert warned[0] == warned[1]


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"])
def test_compiled_modules_follow_their_mode(name):
    x = torch.randn(6, 8, *[1] * int(name[-2]) if name.endswith("d") else ())
    layer = getattr(fastdrop, name)(P)
    call = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_same_bits(seeded(call, x), seeded(layer, x))
    assert not torch.equal(call(x), x)
    layer.eval()
    assert_same_bits(call(x), x)
