"""What all channel and alpha members share: derivatives, torch.func, compiled graphs, nothing kept for the backward."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import oracle
import pytest
import torch
from oracle import assert_same_bits
from torch._dynamo.testing import CompileCounterWithBackend
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import fastdrop
from fastdrop import functional
from fastdrop.functional import alpha_dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout

pytestmark = [  # warnings of torch's own code
    pytest.mark.usefixtures("nothing_compiled"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:dropout.d. Received a:UserWarning"),
]

P, SEED = 0.4, 2**63 + 5
NO_COMPILER = sys.platform != "linux" or not (shutil.which("g++") or shutil.which("clang++"))
INDUCTOR = pytest.param("inductor", marks=pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler"))
BACKENDS = pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])


class Case(NamedTuple):
    """A member, and an input for it."""

    function: Callable[..., torch.Tensor]
    shape: tuple[int, ...]
    noise: tuple[int, ...]
    turned: bool = False  # channels last, or the like

    def drop(self, x: torch.Tensor, **key: Any) -> torch.Tensor:
        return self.function(x, P, True, **key)

    def input(self, dtype: torch.dtype = torch.float64, **sizes: int) -> torch.Tensor:
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        return x.transpose(1, -1).contiguous().transpose(1, -1) if self.turned else x

    def slope(self, x: torch.Tensor, seed: int = SEED) -> torch.Tensor:
        """Return the derivative: what each element is multiplied by, or 0."""
        kept = oracle.keep(torch.empty(self.noise) if self.noise != self.shape else x, P, seed).expand(x.shape)
        is_alpha = "alpha" in self.function.__name__
        scale = oracle.alpha_factors(P, x.dtype)[0] if is_alpha else oracle.scale(P, x.dtype)
        return torch.where(kept, torch.tensor(scale, dtype=oracle.COMPUTE[x.dtype]), 0)


CASES = {
    "1d": Case(dropout1d, (3, 4, 5), (3, 4, 1)),
    "1d unbatched": Case(dropout1d, (6, 5), (6, 1)),
    "2d": Case(dropout2d, (2, 3, 4, 5), (2, 3, 1, 1)),
    "2d turned": Case(dropout2d, (2, 3, 4, 5), (2, 3, 1, 1), True),
    "2d of three": Case(dropout2d, (2, 3, 4), (2, 3, 1)),
    "3d": Case(dropout3d, (2, 3, 4, 1, 5), (2, 3, 1, 1, 1)),
    "3d unbatched": Case(dropout3d, (6, 2, 3, 2), (6, 1, 1, 1)),
    "alpha": Case(alpha_dropout, (4, 7), (4, 7)),
    "alpha turned": Case(alpha_dropout, (4, 7), (4, 7), True),
    "feature alpha": Case(feature_alpha_dropout, (3, 4, 5), (3, 4, 1)),
    "feature alpha turned": Case(feature_alpha_dropout, (3, 4, 5), (3, 4, 1), True),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def seeded(function: Callable[..., Any], *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


# Derivatives


@every_case
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", oracle.FLOATS)
def test_gradient(case, dtype, inplace):
    x = case.input(dtype).requires_grad_()
    grad_output = torch.rand(case.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    y = case.drop(x * 1, inplace=inplace, seed=SEED)
    wanted = (grad_output.to(oracle.COMPUTE[dtype]) * case.slope(x.detach())).to(dtype)
    assert_same_bits(torch.autograd.grad(y, x, grad_output)[0], wanted)


@every_case
def test_derivatives_are_those_of_finite_differences(case):
    x = case.input().requires_grad_()
    call = partial(case.drop, seed=SEED)
    assert torch.autograd.gradcheck(call, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: call(x) ** 2, x, check_fwd_over_rev=True)


@every_case
def test_a_checkpoint_repeats_its_mask(case):
    x = case.input().requires_grad_()
    wanted = torch.autograd.grad(seeded(case.drop, x).sin().sum(), x)[0]
    y = seeded(partial(checkpoint, use_reentrant=False), lambda x: case.drop(x).sin(), x)
    assert_same_bits(torch.autograd.grad(y.sum(), x)[0], wanted)


@every_case
@pytest.mark.parametrize("inplace", [False, True])
def test_nothing_is_saved(case, inplace):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        x = case.input().requires_grad_() * 1
        saved.clear()
        getattr(torch.nn.functional, case.function.__name__)(x, P, True)
        assert saved  # so this sees what is kept
        saved.clear()
        y = case.drop(x, inplace=inplace)
    assert saved == [] and y.requires_grad
    del x
    y.sum().backward()


# torch.func


@every_case
def test_transforms(case):
    x, call = case.input(), partial(case.drop, seed=SEED)
    slope, v = case.slope(x), torch.randn(case.shape, dtype=x.dtype)
    y, tangent = torch.func.jvp(call, (x,), (v,))
    assert_same_bits(y, call(x))
    torch.testing.assert_close(tangent, v * slope)
    torch.testing.assert_close(torch.func.grad(lambda x: (call(x) * v).sum())(x), v * slope)
    jacobian = torch.func.jacrev(call)(x).flatten(x.dim()).flatten(0, x.dim() - 1)
    torch.testing.assert_close(jacobian, slope.flatten().diag())
    hessian = torch.func.hessian(lambda x: (call(x) ** 2).sum() / 2)(x).flatten(x.dim()).flatten(0, x.dim() - 1)
    torch.testing.assert_close(hessian, (slope**2).flatten().diag())


@every_case
def test_vmap(case):
    x = torch.stack([case.input()] * 4)
    rows = torch.func.vmap(partial(case.drop, seed=SEED))(x)
    assert_same_bits(rows, torch.stack([case.drop(case.input(), seed=SEED)] * 4))
    same = torch.func.vmap(case.drop, randomness="same")(x)
    assert all(torch.equal(row, same[0]) for row in same)
    different = torch.func.vmap(case.drop, randomness="different")(x)
    assert any(not torch.equal(row, different[0]) for row in different)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        torch.func.vmap(case.drop)(x)
    seeds = torch.tensor([1, 2, 3, 2])
    keyed = torch.func.vmap(lambda x, seed: case.drop(x, seed=seed))(x, seeds)
    assert_same_bits(keyed, torch.stack([case.drop(case.input(), seed=int(seed)) for seed in seeds]))


# Graphs


@every_case
@BACKENDS
def test_compiled_code_computes_what_eager_code_does(case, backend):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return case.drop(x), case.drop(x * 2), case.drop(x * 1, inplace=True), case.drop(x, seed=SEED, offset=3)

    x = case.input().requires_grad_()
    wanted = seeded(run, x)
    state = torch.get_rng_state()
    got = seeded(torch.compile(run, backend=backend, fullgraph=True), x)
    assert torch.equal(torch.get_rng_state(), state)
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert_same_bits(one, other)
        grad_output = torch.randn_like(x)
        gradients = [torch.autograd.grad(y, x, grad_output, retain_graph=True)[0] for y in (one, other)]
        assert_same_bits(*gradients)
        assert gradients[0].any() or i < 3


@every_case
def test_compiled_code_keeps_the_seed_alone(case):
    x = case.input().requires_grad_()
    y = torch.compile(case.drop, backend="aot_eager", fullgraph=True)(x)
    assert [(one.numel(), one.dtype) for one in y.grad_fn.saved_tensors] == [(1, torch.int64)]


@every_case
def test_one_graph_for_all_sizes(case):
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(partial(case.drop, seed=SEED), backend=counter, fullgraph=True, dynamic=True)
    counts = set()
    for times in (1, 2, 3):
        x = torch.cat([torch.cat([case.input()] * times, 0)] * (times + 1), -1).requires_grad_()
        y = call(x)
        assert_same_bits(y, case.drop(x, seed=SEED))
        grad_output = torch.randn_like(x)
        wanted = torch.autograd.grad(case.drop(x, seed=SEED), x, grad_output)[0]
        assert_same_bits(torch.autograd.grad(y, x, grad_output)[0], wanted)
        counts.add(counter.frame_count)
    assert len(counts) == 1


@every_case
def test_operator(case):
    noise = None if case.noise == case.shape else case.noise
    formula = "alpha_dropout" if "alpha" in case.function.__name__ else "dropout"
    args = case.input().requires_grad_(), P, torch.tensor(5), 3, None, noise, formula
    torch.library.opcheck(torch.ops.fastdrop.dropout.default, args)


def test_compilation_warns_as_with_native():
    x, warned = torch.ones(2, 3, 4), []
    for function in (torch.nn.functional.dropout2d, dropout2d):
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


# Overrides of torch's functions


@every_case
def test_who_overrides_functions_sees_ours(case):
    class Seen(TorchFunctionMode):
        calls: list[Any] = []

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls.append((function, kwargs))
            return function(*args, **kwargs or {})

    x, key = case.input(), {"seed": SEED, "offset": 2, "generator": None}
    with Seen() as mode:
        y = case.drop(x, seed=SEED, offset=2)
    assert (getattr(functional, case.function.__name__), key) in mode.calls
    assert_same_bits(y, case.drop(x, seed=SEED, offset=2))
