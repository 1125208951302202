"""Masks that are broadcast: `noise_shape`, and how a mask lies over memory."""

import mask_reference
import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of

import fastdrop
from fastdrop._keys.broadcast import BroadcastLayout, broadcast_layout_of
from fastdrop.functional import dropout

SEED, OFFSET = 9, 2**63 + 3
CASES = [  # shape, noise shape
    ((7, 50, 3, 11), (7, 50, 1, 1)),
    ((40, 700), (40, 1)),
    ((5, 30, 257), (5, 1, 257)),
    ((5, 30, 257), (1, 1, 257)),
    ((100, 64, 130), (1, 1, 130)),
    ((6, 90, 2000), (6, 1, 2000)),
    ((3, 100_000), (3, 1)),
    ((2, 3, 50_000), (2, 1, 50_000)),
    ((3, 4, 5, 6), (3, 1, 5, 1)),  # of no pattern that a kernel knows
    ((3, 4, 5, 6), (1, 4, 1, 6)),
    ((3, 4, 5), (3, 4, 5)),
    ((9,), (1,)),
    ((2, 1, 300), (2, 1, 1)),
]


def keep(noise: tuple[int, ...], shape: tuple[int, ...], p: float) -> torch.Tensor:
    """Return the mask, from the specification alone."""
    draws = torch.arange(torch.Size(noise).numel())
    kept = torch.from_numpy(mask_reference.keep_mask(draws.numpy(), p, SEED, OFFSET))
    return kept.reshape(noise).expand(shape)


LAYOUTS = {
    "contiguous": lambda x: x,
    "dimensions reversed in memory": lambda x: (
        x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim())))
    ),
    "last dimension first in memory": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "channels last in memory": lambda x: x.movedim(1 % x.dim(), -1).contiguous().movedim(-1, 1 % x.dim()),
    "every other row": lambda x: torch.stack([x, x], 1).flatten(0, 1)[::2],
    "expanded": lambda x: x[..., :1].expand(x.shape),
    "negated view": lambda x: torch._neg_view(-x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "noise"), CASES, ids=str)
def test_mask_of_every_shape_over_every_layout(shape, noise, layout):
    x = LAYOUTS[layout](torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    y = dropout(x, 0.4, noise_shape=noise, seed=SEED, offset=OFFSET)
    assert_same_bits(y, oracle.apply(x.resolve_neg(), keep(noise, shape, 0.4), 0.4))
    assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("p", [2**-20, 0.7, 1 - 2**-20, 1.0])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "noise"), CASES[:4], ids=str)
def test_every_dtype(shape, noise, dtype, p):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    x[0] = float("nan")
    y = dropout(x, p, noise_shape=noise, seed=SEED, offset=OFFSET)
    assert_same_bits(y, oracle.apply(x, keep(noise, shape, p), p))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("shape", "noise"), CASES[4:8], ids=str)
def test_any_number_of_threads_gives_the_same(shape, noise, threads):
    x, before = torch.randn(shape, generator=torch.Generator().manual_seed(2)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = dropout(x, 0.4, noise_shape=noise, seed=SEED, offset=OFFSET)
    finally:
        torch.set_num_threads(before)
    assert_same_bits(y, oracle.apply(x, keep(noise, shape, 0.4), 0.4))


@pytest.mark.parametrize("layout", ["contiguous", "dimensions reversed in memory", "every other row"])
@pytest.mark.parametrize(("shape", "noise"), [CASES[i] for i in (0, 2, 8)], ids=str)
def test_in_place(shape, noise, layout):
    x = LAYOUTS[layout](torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    wanted, version = oracle.apply(x, keep(noise, shape, 0.4), 0.4), x._version
    assert dropout(x, 0.4, inplace=True, noise_shape=noise, seed=SEED, offset=OFFSET) is x
    assert_same_bits(x, wanted)
    assert x._version > version
    leaf = torch.ones(shape, requires_grad=True)
    y = dropout(leaf * 1, 0.4, inplace=True, noise_shape=noise, seed=SEED, offset=OFFSET)
    y.sum().backward()
    assert_same_bits(leaf.grad, oracle.apply(torch.ones(shape), keep(noise, shape, 0.4), 0.4))


def test_gradient_of_any_layout_meets_the_forwards_mask():
    for layout in LAYOUTS.values():
        x = torch.randn(8, 6, 4, 5, requires_grad=True)
        grad = layout(torch.randn(8, 6, 4, 5))
        dropout(x, 0.4, noise_shape=(8, 6, 1, 1), seed=SEED, offset=OFFSET).backward(grad)
        assert_same_bits(x.grad, oracle.apply(grad.resolve_neg(), keep((8, 6, 1, 1), x.shape, 0.4), 0.4))


@pytest.mark.parametrize("layout", ["contiguous", "channels last in memory", "every other row"])
def test_compiled_as_eager(layout):
    x = LAYOUTS[layout](torch.randn(8, 6, 4, 5)).requires_grad_()

    def call(x):
        return dropout(x, 0.4, noise_shape=(None, None, 1, 1))

    torch.manual_seed(4)
    wanted = call(x)
    torch.manual_seed(4)
    y = torch.compile(call, fullgraph=True)(x)
    assert_same_bits(y, wanted)
    assert_same_bits(*(torch.autograd.grad(each.pow(2).sum(), x)[0] for each in (y, wanted)))


def test_none_stands_for_the_inputs_size():
    x = torch.randn(4, 3, 5)
    wanted = dropout(x, 0.5, noise_shape=(4, 1, 5), seed=1)
    for noise in ((None, 1, None), [None, 1, 5], torch.Size([4, 1, 5]), iter([4, 1, None])):
        assert_same_bits(dropout(x, 0.5, noise_shape=noise, seed=1), wanted)
    assert_same_bits(fastdrop.Dropout(0.5, noise_shape=(None, 1, None))(x, seed=1), wanted)


@pytest.mark.parametrize(
    ("noise", "error", "said"),
    [
        ((4, 1), "ValueError", "3 entries"),
        ((4, 1, 5, 1), "ValueError", "3 entries"),
        ((4, 2, 5), "ValueError", "None, 1 or the input's (4, 3, 5)"),
        ((4, 0, 5), "ValueError", "None, 1 or"),
        ((4, -1, 5), "ValueError", "None, 1 or"),
        ((4, 1.0, 5), "TypeError", "an entry of noise_shape"),
        (5, "TypeError", "sequence of integers and None, but got int: 5"),
        ("415", "TypeError", "but got str"),
    ],
    ids=str,
)
def test_bad_noise_shapes_are_refused_in_eval_too(noise, error, said):
    for training in (True, False):
        kind, text = error_of(lambda training=training: dropout(torch.ones(4, 3, 5), 0.5, training, noise_shape=noise))
        assert kind == error and said in text


@pytest.mark.parametrize(
    ("shape", "strides", "noise", "pattern"),
    [
        ((4, 6, 5, 5), (150, 25, 5, 1), (4, 6, 1, 1), BroadcastLayout(25, 1)),
        ((4, 6, 5, 5), (150, 1, 30, 6), (4, 6, 1, 1), BroadcastLayout(25, 6)),
        ((4, 6, 5, 5), (150, 25, 5, 1), (4, 1, 1, 1), BroadcastLayout(150, 1)),
        ((4, 9, 7), (63, 7, 1), (4, 1, 7), BroadcastLayout(9, 7)),
        ((4, 9, 7), (7, 28, 1), (4, 1, 7), BroadcastLayout(9, 28)),
        ((4, 9, 7), (63, 7, 1), (1, 1, 1), BroadcastLayout(252, 1)),
        ((4, 9, 7), (63, 7, 1), (4, 9, 7), BroadcastLayout(1, 252)),
        ((4, 9, 7), (63, 1, 9), (4, 9, 7), None),  # the mask is counted row by row, memory is not
        ((4, 9, 7), (126, 14, 2), (4, 1, 7), None),  # not dense
        ((4, 9, 7, 3), (189, 21, 3, 1), (4, 1, 7, 1), None),
        ((4, 1, 7), (7, 99, 1), (4, 1, 1), BroadcastLayout(7, 1)),  # the stride of one element says nothing
    ],
)
def test_patterns(shape, strides, noise, pattern):
    assert broadcast_layout_of(shape, strides, noise) == pattern
