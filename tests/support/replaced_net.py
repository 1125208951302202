"""Modules whose dropouts the tests of replace and restore swap or leave, and how to tell whose they are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import fastdrop

INFINITIES = torch.full((64,), float("inf"))


class Subclass(nn.Dropout):
    """Of a library, say."""


class ChannelSubclass(nn.Dropout2d):
    """Of a library too."""


class OwnSubclass(fastdrop.Dropout):
    """Of a user."""


class Net(nn.Module):
    """Two dropouts, one of them used twice and under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.25))
        self.drop = nn.Dropout(0.5)
        self.same = self.drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(self.drop(self.inner(x)).relu())


def net_by_functions(model: Net, x: torch.Tensor, dropout: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Compute what Net computes, without its dropout modules."""
    y = dropout(model.inner[0](x), 0.25)
    return dropout(dropout(y, 0.5).relu(), 0.5)


def seeded(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    torch.manual_seed(12345)
    return function(*args, **kwargs)


def drops_as_ours(function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether a dropped infinity is 0, as with ours, or NaN, as with native, which multiplies."""
    y = function(INFINITIES)
    ours, native = bool((y == 0).any()), bool(y.isnan().any())
    assert ours != native
    return ours


def types(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


def batch() -> torch.Tensor:
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(1))


def layers_with_dropout_inside(p: float) -> dict[str, nn.Module]:
    """Return torch's layers that drop without a dropout module."""
    return {
        "attention": nn.MultiheadAttention(8, 2, dropout=p),
        "rnn": nn.RNN(4, 4, 2, dropout=p),
        "lstm": nn.LSTM(4, 4, 2, dropout=p),
        "gru": nn.GRU(4, 4, 2, dropout=p),
    }
