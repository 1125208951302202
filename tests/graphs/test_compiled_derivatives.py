"""Compiled dropout: its derivatives, what is kept for them, checkpoints and torch.func."""

import functools
import itertools

import oracle
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from exact import integers
from func_transforms import TRANSFORMS
from graphs import (
    BACKENDS,
    HALF,
    MARKS,
    SEED,
    Function,
    P,
    assert_dropout,
    compiled,
    factors,
    gradient,
    leaf,
    seeded,
    values,
)
from oracle import assert_same_bits, error_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastdrop.functional import dropout

pytestmark = MARKS

native = nn.functional.dropout


# Derivatives of compiled code


def test_double_backward():
    x = leaf(integers(6, 40))
    y = compiled(lambda x: dropout(x, HALF, seed=SEED) ** 3, "eager")(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    d = factors(x)
    assert_same_bits(first, 3 * d**3 * x**2)
    assert_same_bits(gradient(first, x), 6 * d**3 * x)
    for call in (native, functools.partial(dropout, seed=SEED)):  # AOTAutograd knows none
        x = leaf(integers(6, 40))
        y = compiled(lambda x, call=call: call(x, HALF) ** 3)(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        with pytest.raises(RuntimeError):
            gradient(first, x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_tangents(backend):
    def push(x: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(dropout(forward_ad.make_dual(x, tangent) * 2, HALF, seed=SEED)).tangent

    x = integers(6, 40)
    assert_same_bits(compiled(push, backend)(x, x + 1), (x + 1) * 2 * factors(x))


def test_compiled_backward_of_all_kinds():
    def step(x: torch.Tensor) -> torch.Tensor:
        y = dropout(x, HALF)
        y.sum().backward()
        return y.detach()

    with torch._dynamo.config.patch(compiled_autograd=True):
        for run in (step, torch.compile(step, backend="aot_eager")):
            x = leaf(integers(300))
            y = torch.compile(run, backend="aot_eager")(x)
            assert_same_bits(x.grad, y / x)
            assert set(x.grad.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_without_gradients(off):
    call = compiled(lambda x: dropout(x, P, seed=SEED))
    x = leaf(values(6, 40))
    assert_dropout(call(x), x)
    with off():
        y = call(x)
        assert not y.requires_grad and y.is_inference() == (off is torch.inference_mode)
        assert_same_bits(y, oracle.dropout(x, P, SEED))


@BACKENDS
def test_nothing_is_kept_but_the_seed(backend):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return dropout(x, P), dropout(x.t(), P), dropout(x[:, ::2], P, seed=SEED)

    x = leaf(values(6, 40))
    for dynamic in (None, True):
        y, *_ = compiled(run, backend, dynamic=dynamic)(x)
        saved = y.grad_fn.saved_tensors
        assert saved and all(one.numel() == 1 and one.dtype is torch.int64 for one in saved)
        torch._dynamo.reset()
    y = compiled(lambda x: native(x, P))(x)
    assert [one.shape for one in y.grad_fn.saved_tensors] == [x.shape]  # so this sees what is kept


# Checkpoints


def layer(x: torch.Tensor) -> torch.Tensor:
    return dropout(dropout(x, HALF) ** 2, HALF) * dropout(x, HALF)


@BACKENDS
def test_checkpoint_inside_compiled_code(backend):
    def run(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(layer, x * 2, use_reentrant=False)

    x = leaf(integers(300))
    wanted = seeded(lambda x: layer(x * 2), x)
    expected = gradient(wanted, x)
    y = seeded(compiled(run, backend), x)
    assert y.grad_fn.saved_tensors[0].numel() == 300  # x, from which all is computed again
    assert not any(one.is_floating_point() for one in y.grad_fn.saved_tensors[1:])
    torch.manual_seed(99)
    got = gradient(y, x)
    assert_same_bits(y, wanted)
    assert_same_bits(got, expected)
    assert 0 < got.count_nonzero() < 300


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint_of_compiled_code(use_reentrant):
    x = leaf(integers(300))
    wanted = gradient(seeded(layer, x), x)
    y = seeded(lambda x: checkpoint(compiled(layer), x, use_reentrant=use_reentrant), x)
    torch.manual_seed(99)
    y.sum().backward()
    assert_same_bits(x.grad, wanted)
    assert 0 < wanted.count_nonzero() < 300


# torch.func in compiled code


IN_GRAPHS = ["grad", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "rows", "grad of grad", "rows of grad", "jvp of rows"]


@pytest.mark.parametrize("name", IN_GRAPHS)
@pytest.mark.sampled(2)
def test_transforms_in_compiled_code(name):
    x = integers(3, 4).t()
    d = factors(x)
    wanted = TRANSFORMS[name](lambda x: x * d)(x)
    got = compiled(TRANSFORMS[name](lambda x: dropout(x, HALF, seed=SEED)))(x)
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_in_compiled_code(randomness):
    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda row: dropout(row, HALF), randomness=randomness)(x)

    x = leaf(integers(4, 300))
    wanted = seeded(run, x)
    call = compiled(run)
    y = seeded(call, x)
    assert_same_bits(y, wanted)
    assert_same_bits(gradient(y, x), y / x)
    masks = (call(x) / x).detach()
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(masks, wanted / x)
    for one, other in itertools.combinations(masks, 2):
        assert torch.equal(one, other) == (randomness == "same")


def test_vmap_over_seeds_in_compiled_code():
    x, seeds = integers(4, 300), torch.tensor([5, 0, 2**62, -1])
    got = compiled(torch.vmap(lambda row, seed: dropout(row, P, seed=seed)))(x, seeds)
    by_row = [oracle.dropout(row, P, seed % 2**64) for row, seed in zip(x, seeds.tolist(), strict=True)]
    assert_same_bits(got, torch.stack(by_row))


def test_error_of_native_is_ours_under_vmap_in_compiled_code():
    def run(call: Function) -> Function:
        return compiled(lambda x: torch.vmap(lambda row: call(row, HALF))(x))

    wanted = error_of(lambda: run(native)(values(3, 4)))
    got = error_of(lambda: run(dropout)(values(3, 4)))
    assert wanted is not None and got is not None
    assert "randomness" in wanted[1] and "randomness" in got[1]
