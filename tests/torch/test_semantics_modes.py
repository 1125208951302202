"""Beside torch's own dropout: default devices, inference mode, no_grad and autocast."""

import threading

import oracle
import pytest
import torch
from beside_native import native
from oracle import FLOATS, assert_same_bits
from watch import Watch

import fastdrop
from fastdrop.functional import dropout


def in_a_new_thread(call):
    """Return what a call returns in a thread that has drawn no seed yet."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    assert results, "the thread failed"
    return results[0]


@pytest.fixture
def default_meta():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


LAYOUTS = {"contiguous": lambda x: x, "transposed": lambda x: x.t(), "sliced": lambda x: x[:, ::2].t()}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_default_device_does_not_matter(default_meta, make):
    with torch.device("cpu"):
        x = make(torch.randn(30, 70))
        wanted, mask = oracle.dropout(x, 0.3, 5), oracle.keep(torch.empty(9, 9), 0.3, 5)
    leaf = x.clone().requires_grad_()
    y, default = dropout(leaf, 0.3, seed=5), fastdrop.dropout_mask((9, 9), 0.3, seed=5)
    y.sum().backward()
    tangent = torch.func.jvp(lambda x: dropout(x, 0.3, seed=5), (x,), (x,))[1]
    rows = torch.vmap(lambda x: dropout(x, 0.5), randomness="different")(x)
    drawn = fastdrop.Dropout(0.5)(x)
    assert dropout(torch.ones(4), 0.5).is_meta
    with torch.device("cpu"):
        assert default.device.type == "cpu" and torch.equal(default, mask)
        assert_same_bits(dropout(x, 0.3, seed=5), wanted)
        assert_same_bits(y, oracle.dropout(leaf, 0.3, 5))
        assert_same_bits(leaf.grad, oracle.apply(torch.ones(x.shape), oracle.keep(leaf, 0.3, 5), 0.3))
        assert_same_bits(tangent, wanted)
        for result in (rows, drawn):
            assert ((result == 0) | (result == 2 * x)).all()


@pytest.mark.parametrize("mode", [lambda: torch.device("meta"), torch.inference_mode, torch.no_grad, Watch])
@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_first_draw_of_a_thread_in_a_mode_spoils_no_later_one(mode, generator):
    x = torch.ones(200)

    def call():
        with mode():
            first = dropout(x, 0.5, generator=generator)
        return first, dropout(x, 0.5, generator=generator), dropout(x, 0.5)

    results = in_a_new_thread(call)
    assert [set(y.tolist()) for y in results] == [{0.0, 2.0}] * 3
    assert len({tuple(y.tolist()) for y in results}) == 3


def test_inference_mode():
    x = torch.ones(100, requires_grad=True)
    with torch.inference_mode():
        y = dropout(x, 0.5, seed=1)
        assert y.is_inference() and not y.requires_grad
        assert_same_bits(y, oracle.dropout(x, 0.5, 1))
        assert dropout(y, 0.5, inplace=True, seed=2) is y
        assert dropout(x, 0.5, inplace=True, seed=3) is x
    assert_same_bits(y, oracle.dropout(oracle.dropout(torch.ones(100), 0.5, 1), 0.5, 2))
    assert_same_bits(x, oracle.dropout(torch.ones(100), 0.5, 3))


def test_no_grad():
    x = torch.ones(100, requires_grad=True)
    with torch.no_grad():
        y = dropout(x, 0.5, seed=1)
    assert not y.requires_grad and y.grad_fn is None
    assert_same_bits(y, oracle.dropout(x, 0.5, 1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_autocast_leaves_every_dtype(low, dtype):
    x = torch.randn(100).to(dtype).requires_grad_()
    with torch.autocast("cpu", low):
        y = dropout(x, 0.5, seed=1)
        assert native(x, 0.5).dtype is dtype
    assert_same_bits(y, oracle.dropout(x, 0.5, 1))


def test_a_mode_sees_a_backward_whose_forward_it_did_not_see():
    x = torch.randn(300, requires_grad=True)
    y, grad_output = dropout(x, 0.5, seed=3), torch.randn(300)
    (unseen,) = torch.autograd.grad(y, x, grad_output, retain_graph=True)
    with Watch() as watch:
        (gradient,) = torch.autograd.grad(y, x, grad_output)
    kept = y.detach() != 0
    assert any(one.dtype is grad_output.dtype and torch.equal(one, grad_output * 2) for one in watch.seen)  # scaled,
    assert torch.equal(watch.seen[-1] != 0, kept)  # then masked: not only the memory that a kernel writes to
    assert_same_bits(gradient, unseen)
