"""torch.utils.checkpoint: the second run gives the first one's masks."""

from contextlib import nullcontext

import pytest
import torch
from exact import P, integers
from oracle import assert_same_bits
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from fastdrop.functional import dropout

native = torch.nn.functional.dropout


@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_gives_the_same_gradients(use_reentrant, preserve):
    first, second, inplace = ({}, {}, True) if preserve else ({"seed": 1}, {"seed": 2}, False)

    def layer(x):
        return dropout(torch.sin(dropout(x, P, **first)), P, True, inplace, **second)

    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(11)
        x = integers(500).requires_grad_()
        if checkpointed:
            y = checkpoint(layer, x, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        else:
            y = layer(x)
        torch.manual_seed(12)
        y.sum().backward()
        gradients.append(x.grad)
    assert abs(gradients[0].count_nonzero() - 125) < 4 * (500 * 0.25 * 0.75) ** 0.5
    assert_same_bits(gradients[0], gradients[1])


@pytest.mark.parametrize("watched", [("forward", "backward"), ("forward",), ("backward",)], ids="+".join)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_watched_by_a_mode(use_reentrant, watched):
    for call in (native, dropout):
        x = torch.ones(500, dtype=torch.float64, requires_grad=True)
        with FlopCounterMode(display=False) if "forward" in watched else nullcontext():
            y = checkpoint(lambda x, call=call: call(x, P) * 3, x, use_reentrant=use_reentrant)
        with FlopCounterMode(display=False) if "backward" in watched else nullcontext():
            y.sum().backward()
        assert 0 < y.count_nonzero() < 500
        assert_same_bits(x.grad, y)
