"""Tensors that functionalization wraps, with no mode and no transform around them: as native takes them."""

import oracle
import pytest
import torch
from torch.nn import functional as F

from fastdrop.functional import drop_block2d, dropout, dropout1d, gaussian_noise


def functional(x: torch.Tensor) -> torch.Tensor:
    return torch._to_functional_tensor(x)


def plain(x: torch.Tensor) -> torch.Tensor:
    assert torch._is_functional_tensor(x)
    torch._sync(x)
    return torch._from_functional_tensor(x)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[1:], lambda x: x[:, ::2], lambda x: x.T], ids=range(4))
@pytest.mark.parametrize("inplace", [False, True])
def test_functional_tensor(view, inplace):
    x = torch.randn(6, 8)
    y = dropout(view(functional(x.clone())), 0.5, seed=3, inplace=inplace)
    assert torch.equal(plain(y), dropout(view(x).contiguous(), 0.5, seed=3))  # a functional view is a copy


@pytest.mark.parametrize("name", ["dropout", "dropout1d", "alpha_dropout"])
@pytest.mark.parametrize("inplace", [False, True])
def test_installed(name, inplace, installed):
    x = torch.randn(4, 6, 8)
    call = getattr(F, name)
    torch.manual_seed(4)
    wanted = call(x, 0.5, training=True)
    torch.manual_seed(4)
    y = call(functional(x.clone()), 0.5, training=True, inplace=inplace)
    assert torch.equal(plain(y), wanted)


def test_gradient():
    wrapped = functional(torch.randn(30)).requires_grad_()
    y = dropout(wrapped, 0.5, seed=3)
    assert y.requires_grad
    (grad,) = torch.autograd.grad(y.sum(), wrapped)
    assert torch.equal(plain(grad), oracle.dropout(torch.ones(30), 0.5, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: dropout1d(x, 0.5, seed=3),
        lambda x: gaussian_noise(x, 0.5, seed=3),
        lambda x: drop_block2d(x[None], 0.5, 3, seed=3),
    ],
    ids=["channels", "noise", "blocks"],
)
def test_family(call):
    x = torch.randn(4, 6, 8)
    assert torch.equal(plain(call(functional(x))), call(x))
