"""install(): torch.func's transforms over what drops inside, which reach the overrides from within other operators.

They are handed over, so that the same seed gives native's results bit for bit, and native's errors.
"""

import functools
from collections.abc import Callable

import pytest
import torch
from func_transforms import TRANSFORMS, loss_of
from graphs import Function
from torch import nn
from torch.nn import functional as F
from torch_operators import OPERATORS, dropped, outcome, randn

import fastdrop

pytestmark = [
    pytest.mark.usefixtures("uninstalled"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),  # torch's own, in linearize
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented:UserWarning"),
]

P, SIZE = 0.4, 4


def mapped(randomness: str, function: Function) -> Function:
    """Return a function that is mapped over three equal rows."""
    return lambda x: torch.vmap(function, randomness=randomness)(x.expand(3, *x.shape))


def jacfwd_of_same(function: Function) -> Function:
    return torch.func.jacfwd(function, randomness="same")


ALL: dict[str, Callable[[Function], Function]] = TRANSFORMS | {
    **{f"rows, {how}": functools.partial(mapped, how) for how in ("same", "different", "error")},
    "different rows of grad": lambda d: mapped("different", torch.func.grad(loss_of(d))),
    "same rows of grad": lambda d: mapped("same", torch.func.grad(loss_of(d))),
    "grad of different rows": lambda d: torch.func.grad(lambda x: (mapped("different", d)(x) ** 2).sum()),
    "jvp of same rows": lambda d: TRANSFORMS["jvp"](mapped("same", d)),
    "vjp": lambda d: lambda x: torch.func.vjp(d, x)[1](x + 1)[0],  # no call beside it, whose mask would be ours
    "jacfwd, same": jacfwd_of_same,
    "hessian, same": lambda d: jacfwd_of_same(torch.func.jacrev(loss_of(d))),
    "vmap of functionalize": lambda d: mapped("different", torch.func.functionalize(d)),
}
del ALL["linearize"]  # it makes a graph, which holds our operator and draws at each call, as native's does


def module(kind: type[nn.Module], *args: int) -> nn.Module:
    """Return a module of weights that stay the same: none may be made within a transform."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return kind(*args, dropout=P).double()


ATTENTION, DECODER = module(nn.MultiheadAttention, SIZE, 2), module(nn.TransformerDecoderLayer, SIZE, 2, 8)
RECURRENT = {kind.__name__: module(kind, SIZE, SIZE, 2) for kind in (nn.LSTM, nn.GRU, nn.RNN)}

DROPPING: dict[str, Function] = {  # of (3, 2, 4)
    **{
        name: functools.partial(lambda name, x: dropped(name, x * 1, P), name)
        for name in OPERATORS
        if name != "native_dropout"
    },
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=P),
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=P, is_causal=True),
    "attention with a mask": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=torch.ones(2, 2, dtype=torch.float64), dropout_p=P
    ),
    "MultiheadAttention": lambda x: ATTENTION(x, x, x, need_weights=False)[0],
    "MultiheadAttention with weights": lambda x: ATTENTION(x, x, x)[0],
    "TransformerEncoderLayer": module(nn.TransformerEncoderLayer, SIZE, 2, 8),
    "TransformerDecoderLayer": lambda x: DECODER(x, x + 1),
    **{name: functools.partial(lambda layer, x: layer(x)[0], layer) for name, layer in RECURRENT.items()},
    "Dropout in a Sequential": nn.Sequential(nn.Dropout(P), nn.Tanh(), nn.Dropout(P, inplace=True)),
}


@pytest.mark.parametrize("transform", ALL)
@pytest.mark.parametrize("dropping", DROPPING)
@pytest.mark.sampled(3)
def test_transforms_are_natives(dropping, transform):
    function = ALL[transform](DROPPING[dropping])
    native = outcome(lambda: function(randn(3, 2, SIZE)))
    with fastdrop.accelerated():
        ours = outcome(lambda: function(randn(3, 2, SIZE)))
    assert repr(ours) == repr(native)  # compared as text, where NaN equals NaN


@pytest.mark.parametrize("dropping", ["scaled_dot_product_attention", "TransformerEncoderLayer", "LSTM", "GRU"])
def test_gradient_is_that_of_differences(installed, dropping):
    x, direction, step = randn(3, 2, SIZE), torch.cos(randn(3, 2, SIZE)), 1e-6

    def gradient_and_value(x):
        torch.manual_seed(5)
        return torch.func.grad_and_value(loss_of(DROPPING[dropping]))(x)

    (_, above), (_, below) = (gradient_and_value(x + side * step * direction) for side in (1, -1))
    gradient, _ = gradient_and_value(x)
    torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * step), rtol=1e-5, atol=1e-7)
