"""install(): each of torch's operators gives the stream's masks, and gradients by the published formulas."""

from contextlib import nullcontext

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits
from torch.autograd import forward_ad
from torch_operators import LAYOUTS, OPERATORS, P, assert_near, dropped, every_operator, randn, reference, seeds

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")

MODES = {"recorded": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout) for name in OPERATORS for layout in LAYOUTS if (name[-1], layout) != ("_", "expanded")],
)
@pytest.mark.sampled(3)
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
@pytest.mark.sampled(2)
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
