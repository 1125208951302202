"""What the derivatives of every variant must be: first and second, forward and backward, in torch.func and vmap."""

from functools import partial
from typing import Any

import oracle
import pytest
import torch
from family_cases import EVERY_SHAPE, Case, in_place
from oracle import assert_same_bits
from torch.utils.checkpoint import checkpoint

pytestmark = [  # warnings of torch's own code, and of the channels it sees
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:dropout.d. Received a:UserWarning"),
]

SEED = 2**63 + 5
IN_PLACE = in_place(EVERY_SHAPE)
MASKED = [name for name, case in EVERY_SHAPE.items() if case.noise]
every_variant = pytest.mark.parametrize("name", EVERY_SHAPE)
every_masked = pytest.mark.parametrize("name", MASKED)


def small(name: str) -> torch.Tensor:
    """Return few elements in float64, as differences are taken for each; in row-major order, as sums are."""
    x = EVERY_SHAPE[name].input(torch.float64).contiguous()
    if name.startswith(("dropout, mask", "drop_connect", "embedding")):
        return x
    most = (2, 9) if x.dim() == 2 else (1, 1, 4, 4, 4) if "block" in name else (2, 3, 3, 2, 2)
    return x[tuple(slice(size) for size in most[: x.dim()])].contiguous()


def keyed(case: Case) -> Any:
    return partial(case.function, seed=SEED)


def seeded(function: Any, *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


@every_masked
def test_gradient(name):
    """Bit by bit, in every dtype, for a gradient of another layout than the result's; in place too."""
    case = EVERY_SHAPE[name]
    for dtype in oracle.FLOATS:
        x = case.input(dtype).requires_grad_()
        grad_output = torch.rand(case.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
        wanted = (grad_output.to(oracle.COMPUTE[dtype]) * case.slope(x.detach(), SEED)).to(dtype)
        for options in ({}, {"inplace": True}) if name in IN_PLACE else ({},):
            y = case.function(x * 1, seed=SEED, **options)
            assert_same_bits(torch.autograd.grad(y, x, grad_output)[0], wanted)


@every_variant
@pytest.mark.sampled(2)
def test_derivatives_are_those_of_finite_differences(name):
    case = EVERY_SHAPE[name]
    x, call = small(name).requires_grad_(), keyed(case)
    assert torch.autograd.gradcheck(call, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: call(x) ** 2, x, check_fwd_over_rev=True)


@every_variant
def test_transforms(name):
    """All are linear but for a constant: along v, a result changes by as much as one that is v further."""
    case = EVERY_SHAPE[name]
    x, call = small(name), keyed(case)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    y, tangent = torch.func.jvp(call, (x,), (v,))
    assert_same_bits(y, call(x))
    torch.testing.assert_close(tangent, call(x + v) - call(x))
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=x.dtype)
    gradient = torch.func.grad(lambda x: (call(x) * g).sum())(x)
    torch.testing.assert_close((gradient * v).sum(), (g * tangent).sum())
    jacobian = torch.func.jacrev(call)(x).reshape(y.numel(), x.numel())
    torch.testing.assert_close(jacobian @ v.flatten(), tangent.flatten())
    torch.testing.assert_close(jacobian.T @ g.flatten(), gradient.flatten())
    hessian = torch.func.hessian(lambda x: (call(x) ** 2).sum() / 2)(x).reshape(x.numel(), x.numel())
    torch.testing.assert_close(hessian, jacobian.T @ jacobian)


@every_masked
def test_slope_is_the_specifications(name):
    case = EVERY_SHAPE[name]
    x = case.input(torch.float64)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    _, tangent = torch.func.jvp(keyed(case), (x,), (v,))
    torch.testing.assert_close(tangent, v * case.slope(x, SEED))


@every_variant
def test_vmap(name):
    case = EVERY_SHAPE[name]
    one = case.input(torch.float64).contiguous()  # as the rows of a stack are
    x = torch.stack([one] * 4)
    rows = torch.func.vmap(keyed(case))(x)
    assert_same_bits(rows, torch.stack([case.function(one, seed=SEED)] * 4))
    same = torch.func.vmap(case.function, randomness="same")(x)
    assert all(torch.equal(row, same[0]) for row in same)
    different = torch.func.vmap(case.function, randomness="different")(one.expand(20, *one.shape))
    assert any(not torch.equal(row, different[0]) for row in different)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        torch.func.vmap(case.function)(x)
    seeds = torch.tensor([1, 2, 3, 2])
    by_seed = torch.func.vmap(lambda x, seed: case.function(x, seed=seed))(x, seeds)
    assert_same_bits(by_seed, torch.stack([case.function(one, seed=int(seed)) for seed in seeds]))


@every_variant
def test_a_checkpoint_repeats_its_mask(name):
    case = EVERY_SHAPE[name]
    x = case.input(torch.float64).requires_grad_()
    wanted = torch.autograd.grad(seeded(case.function, x).sin().sum(), x)[0]
    y = seeded(partial(checkpoint, use_reentrant=False), lambda x: case.function(x).sin(), x)
    assert_same_bits(torch.autograd.grad(y.sum(), x)[0], wanted)
