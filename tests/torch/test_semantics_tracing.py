"""Beside torch's own dropout: dispatch and function modes, torch.jit.trace and make_fx."""

import warnings

import oracle
import pytest
import torch
from beside_native import native
from exotic_tensors import ones
from oracle import FLOATS, assert_same_bits
from torch.overrides import TorchFunctionMode
from watch import Watch

import fastdrop
from fastdrop.functional import dropout


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("key", [{}, {"seed": 3}, {"generator": torch.Generator()}], ids=["drawn", "seed", "generator"])
def test_dispatch_mode_sees_where_the_result_comes_from(key, inplace, p):
    for call in (native, lambda *args: dropout(*args, **key)):
        x = ones()
        with Watch() as watch:
            y = call(x, p, True, inplace)
        assert torch.equal(watch.seen[-1], y)
        assert watch.seen[-1].data_ptr() == y.data_ptr()
        assert (y is x) == inplace
        assert set(y.unique().tolist()) == ({0.0, 2.0} if p == 0.5 else {0.0})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.3, 0.5, 0.9999, 1.0])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_dispatch_mode_does_not_change_a_seeds_mask(make, p, dtype):
    x = make(torch.randn(200, 300, generator=torch.Generator().manual_seed(3)).to(dtype))
    with Watch():
        y = dropout(x, p, seed=5, offset=6)
    assert_same_bits(y, oracle.dropout(x, p, 5, 6))
    assert y.any() == (p < 1)
    assert y.stride() == native(x, p).stride()


def test_function_mode_sees_dropout():
    seen = []

    class Record(TorchFunctionMode):
        """Write down each function."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            """Write it down."""
            seen.append((func, args, kwargs))
            return func(*args, **(kwargs or {}))

    x = ones()
    with Record():
        y = dropout(x, 0.5, seed=7, offset=8)
    (call,) = [call for call in seen if call[0] is dropout]
    assert call[1][0] is x
    assert_same_bits(y, oracle.dropout(x, 0.5, 7, 8))


def jit_trace(layer):
    """Return a layer's trace, and what torch warns of (but not that traces are old)."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        traced = torch.jit.trace(layer, torch.ones(80), check_trace=False)
    return traced, [str(one.message) for one in seen if one.category is not DeprecationWarning]


@pytest.mark.parametrize("layer", [lambda x: dropout(x, 0.5), fastdrop.Dropout(0.5)], ids=["functional", "module"])
def test_jit_trace_stays_random(layer):
    traced, _ = jit_trace(layer)
    torch.manual_seed(0)
    first, second = traced(torch.ones(300)), traced(torch.ones(300))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, native(torch.ones(300), 0.5))
    x = torch.ones(300, requires_grad=True)
    y = traced(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_jit_trace_warns_of_no_more_than_native():
    assert jit_trace(fastdrop.Dropout(0.5))[1] == jit_trace(torch.nn.Dropout(0.5))[1]


@pytest.mark.parametrize("key", [{"seed": 3}, {"seed": torch.tensor(3)}], ids=["int", "tensor"])
def test_jit_trace_with_a_seed(key):
    x = torch.randn(80)
    traced, _ = jit_trace(lambda x: dropout(x, 0.5, **key))
    assert_same_bits(traced(x), oracle.dropout(x, 0.5, 3))


def test_jit_trace_of_a_module_with_a_generator():
    traced, _ = jit_trace(fastdrop.Dropout(0.5, generator=torch.Generator()))
    assert set(traced(torch.ones(80)).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_make_fx_stays_random(tracing_mode):
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda x: dropout(x, 0.5), tracing_mode=tracing_mode)(ones())
    torch.manual_seed(0)
    y = graph(ones())
    assert not torch.equal(y, graph(ones()))
    torch.manual_seed(0)
    seed = int(torch.randint(2**63 - 1, ()))
    assert_same_bits(y, oracle.dropout(ones(), 0.5, seed))


@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_make_fx_with_a_seed(tracing_mode):
    make_fx = torch.fx.experimental.proxy_tensor.make_fx
    graph = make_fx(lambda x: dropout(x, 0.5, seed=3), tracing_mode=tracing_mode)(ones())
    x = torch.randn(3, 40)
    assert_same_bits(graph(x), oracle.dropout(x, 0.5, 3))
