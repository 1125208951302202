"""DropBlock: the stream's mask says where blocks start; a block at a time, by hand, says what is dropped."""

import inspect
import itertools
import math
import re

import broadcast_masks
import numpy as np
import pytest
import torch
from broadcast_masks import bytes_kept, check_graphs, values
from oracle import COMPUTE, FLOATS, assert_same_bits, bits
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop._devices import threads
from fastdrop._ops import block_mask
from fastdrop.functional import drop_block2d, drop_block3d, dropout_mask

P, SEED, OFFSET = 0.3, 11, 3
KEY = {"seed": SEED, "offset": OFFSET}
NAN, INF = float("nan"), float("inf")
FORMS = {4: drop_block2d, 5: drop_block3d}
INPUTS = {  # shape, block_size
    "one-place": ((3, 5, 3, 3), 3),
    "odd": ((2, 3, 7, 11), 3),
    "tall": ((2, 3, 13, 5), 5),
    "block-of-1": ((2, 3, 4, 5), 1),
    "block-larger-than-the-input": ((20, 3, 5, 8), 99),
    "row-of-pixels": ((2, 3, 1, 50), 3),
    "several-thresholds": ((2, 5, 40, 41), 7),
    "planes-that-fill-several-chunks": ((7, 3, 50, 60), 5),
    "planes-larger-than-a-chunk": ((1, 2, 150, 170), 9),
    "cubes": ((2, 3, 7, 6, 9), 3),
    "large-cubes": ((2, 2, 9, 10, 11), 5),
    "flat-cubes": ((8, 2, 1, 10, 11), 5),
}
EACH_INPUT = pytest.mark.parametrize(("shape", "block_size"), INPUTS.values(), ids=INPUTS)
EACH_RANK = pytest.mark.parametrize("shape", [(3, 4, 6, 7), (2, 3, 4, 5, 6)], ids=["2d", "3d"])


def drop_block(x: torch.Tensor, block_size: int = 3, p: float = P, **options) -> torch.Tensor:
    return FORMS[x.dim()](x, p, block_size, **KEY, **options)


def cleared(starts: np.ndarray, shape, side: int) -> torch.Tensor:
    """Return a mask that is False in the blocks that start where `starts` is True."""
    keep = np.ones(shape, bool)
    for image, channel, *corner in np.argwhere(starts):
        keep[(image, channel, *(slice(i, i + side) for i in corner))] = False
    return torch.from_numpy(keep)


def kept_by_hand(shape, block_size: int, p: float) -> torch.Tensor:
    """Drop a block after the other, from where they start: gamma is Ghiasi et al.'s, with torchvision's p H W."""
    space = shape[2:]
    side = min(block_size, *space)
    places = [length - side + 1 for length in space]
    gamma = p * math.prod(space) / (side ** len(space) * math.prod(places))
    starts = ~broadcast_masks.keep((*shape[:2], *places), gamma, SEED, OFFSET).numpy()
    return cleared(starts, shape, side)


def wanted(x: torch.Tensor, block_size: int = 3, p: float = P, eps: float = 1e-6) -> torch.Tensor:
    """Scale what is kept by elements / (eps + kept), computed as dtypes of dropout are."""
    keep, compute = kept_by_hand(x.shape, block_size, p), COMPUTE[x.dtype]
    scale = x.numel() / (torch.tensor(eps, dtype=compute) + int(keep.sum()))
    return torch.where(keep, (x.to(compute) * scale).to(x.dtype), torch.zeros((), dtype=x.dtype))


@EACH_INPUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_masks_are_the_streams(shape, block_size, dtype):
    x = values(*shape, dtype=dtype)
    result = wanted(x, block_size)
    assert 0 < (result == 0).sum() < x.numel()
    assert_same_bits(drop_block(x, block_size), result)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_threads_share_a_mask(monkeypatch, openmp, dtype):
    if not openmp:
        monkeypatch.setattr(threads, "torch_openmp", lambda: None)
    x = values(8, 16, 71, 61, dtype=dtype)
    assert x.numel() > 2 * threads.POOL_GRAIN
    result, before = wanted(x, 5), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads.backend() == ("openmp" if openmp else "python threads")
        assert_same_bits(drop_block(x, 5), result)
    finally:
        torch.set_num_threads(before)


@EACH_INPUT
def test_masks_by_torchs_operators(shape, block_size):
    """Devices without a kernel spread the starts by torch's operators."""
    side = min(block_size, *shape[2:])
    keep, kept = block_mask.make(shape, P, side, SEED, OFFSET, torch.device("cpu"))
    starts = torch.ones([*shape[:2], *[length - side + 1 for length in shape[2:]]], dtype=torch.bool)
    starts.bernoulli_(1 - P / side**2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(block_mask.dilate(starts, side), cleared(~starts.numpy(), shape, side))
    assert int(kept) == int(keep.sum())


@EACH_INPUT
@pytest.mark.parametrize("p", [0.02, 0.9, 1.0])
def test_other_p(shape, block_size, p):
    x = values(*shape)
    assert_same_bits(drop_block(x, block_size, p, eps=0.5), wanted(x, block_size, p, eps=0.5))


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d),
    "transposed": lambda x: x.transpose(-1, -2),
    "sliced": lambda x: x[:, 1:, ..., ::2],
    "expanded": lambda x: x[:1].expand(4, *x.shape[1:]),
}


@EACH_RANK
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layouts(shape, layout, dtype):
    x = LAYOUTS[layout](values(*shape, dtype=dtype))
    y = drop_block(x)
    assert_same_bits(y, wanted(x))
    if layout == "channels_last":
        assert y.stride() == x.stride()
    x.requires_grad_()
    (grad,) = torch.autograd.grad(drop_block(x), x, torch.ones(x.shape, dtype=dtype))
    assert_same_bits(grad, wanted(torch.ones(x.shape, dtype=dtype)))


@EACH_RANK
@pytest.mark.parametrize(
    "layout", [lambda x: x, *(LAYOUTS[name] for name in ("channels_last", "transposed", "sliced"))]
)
def test_in_place(shape, layout):
    x = layout(values(*shape))
    result = wanted(x)
    assert drop_block(x, inplace=True) is x
    assert_same_bits(x, result)
    leaf = values(*shape).requires_grad_()
    hidden = leaf * 2
    version = hidden._version
    (grad,) = torch.autograd.grad(drop_block(hidden, inplace=True).sum(), leaf)
    assert hidden._version > version
    assert_same_bits(grad, 2 * wanted(torch.ones(shape)))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        drop_block(leaf, inplace=True)
    with pytest.raises(RuntimeError, match="unsupported operation: more than one element of the written-to tensor"):
        drop_block(values(*shape)[:1].expand(4, *shape[1:]), inplace=True)


@EACH_RANK
def test_complex(shape):
    x = values(*shape, 2)
    y = torch.view_as_real(drop_block(torch.view_as_complex(x)))
    assert torch.allclose(y, x * wanted(torch.ones(shape))[..., None])


@EACH_RANK
def test_a_dropped_element_is_plus_zero_whatever_it_was(shape):
    dropped = ~kept_by_hand(shape, 3, P)
    result = wanted(torch.full(shape, -1.0))
    for rubbish in (NAN, INF, -INF, -1.0):
        x = torch.full(shape, -1.0)
        x[dropped] = rubbish
        assert_same_bits(drop_block(x), result)
        assert_same_bits(drop_block(x, inplace=True), result)


def test_all_dropped():
    y = drop_block2d(torch.full((1, 1, 3, 3), NAN), 1.0, 3, seed=0)
    assert not bits(y).any()


@EACH_RANK
@pytest.mark.sampled(2)
def test_graphs(shape):
    check_graphs(drop_block, values(*shape))
    check_graphs(drop_block, LAYOUTS["channels_last"](values(*shape)))
    check_graphs(lambda x: drop_block(x * 2, inplace=True), values(*shape))


def test_two_calls_in_a_graph_differ_and_follow_manual_seed():
    def twice(x):
        return drop_block2d(x, 0.5, 3), drop_block2d(x, 0.5, 3)

    x = torch.ones(4, 8, 9, 9)
    results = []
    for f in (twice, torch.compile(twice, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(2)
        results.append(f(x))
    assert not torch.equal(*results[0])
    for eager, compiled in zip(*results, strict=True):
        assert_same_bits(compiled, eager)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_draws_one_mask_or_one_each(randomness):
    y = torch.vmap(lambda x: drop_block2d(x, 0.5, 3), randomness=randomness)(torch.ones(3, 2, 4, 9, 9))
    same = [torch.equal(y[i], y[j]) for i, j in itertools.combinations(range(3), 2)]
    assert same == [randomness == "same"] * 3
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(lambda x: drop_block2d(x, 0.5, 3))(torch.ones(3, 2, 4, 9, 9))


def test_a_checkpoint_and_a_mode_that_watches_see_the_same_mask():
    x = torch.ones(4, 8, 9, 9, requires_grad=True)
    y = checkpoint(lambda z: drop_block2d(z, 0.5, 3), x, use_reentrant=False)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert_same_bits(grad, y)
    with FlopCounterMode(display=False):
        assert_same_bits(drop_block(x), wanted(x))


def test_a_byte_an_element_is_kept():
    x = values(4, 8, 16, 16)
    assert x.numel() <= bytes_kept(drop_block, x) <= x.numel() + 8


def test_rate():
    n, p, side = 400, 0.1, 3
    x = torch.ones(n, 1, 30, 31)
    gamma = p * 30 * 31 / (side**2 * 28 * 29)
    starts = ~dropout_mask((n, 1, 28, 29), gamma, seed=3)
    assert abs(starts.double().mean().item() - gamma) < 5 * (gamma * (1 - gamma) / starts.numel()) ** 0.5
    inner = drop_block2d(x, p, side, seed=3)[:, :, side:-side, side:-side] == 0
    by_any_of_9 = 1 - (1 - gamma) ** side**2  # of the blocks that can cover an element away from the border
    assert abs(inner.double().mean().item() - by_any_of_9) < 0.005
    assert drop_block2d(x, p, side, seed=3).mean().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", FORMS)
def test_torchvisions_errors(rank, training):
    f = FORMS[rank]
    x = torch.ones([5] * rank)
    for p in (-0.1, 1.1, INF):
        text = f"drop probability has to be between 0 and 1, but got {p}."
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            f(x, p, 3, training=training)
    for other in {0, 1, 3, 4, 5, 6} - {rank}:
        text = f"input should be {rank} dimensional. Got {other} dimensions."
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            f(torch.ones([5] * other), 0.5, 3, training=training)


@pytest.mark.parametrize("rank", FORMS)
@pytest.mark.parametrize(("length", "block_size", "side"), [(5, 2, 2), (4, 7, 4), (4, 4, 4), (5, 0, 0), (0, 3, 0)])
def test_even_sides(rank, length, block_size, side):
    x = torch.ones(*[5] * (rank - 1), length)
    with pytest.raises(ValueError, match=f"^block size should be odd. Got {side} which is even.$"):
        FORMS[rank](x, 0.5, block_size)
    assert FORMS[rank](x, 0.5, block_size, training=False) is x
    assert FORMS[rank](x, 0.0, block_size) is x


@pytest.mark.parametrize("rank", FORMS)
def test_other_arguments(rank):
    f, x = FORMS[rank], torch.ones([5] * rank)
    with pytest.raises(ValueError, match="at least 1, but got -3"):
        f(x, 0.5, -3)
    with pytest.raises(TypeError, match="block_size has to be an integer, but got float: 3.0"):
        f(x, 0.5, 3.0)
    with pytest.raises(ValueError, match="seed and generator exclude each other"):
        f(x, 0.5, 3, seed=1, generator=torch.Generator())
    for bad in (x.long(), [1.0], None):
        with pytest.raises(TypeError, match=f"^drop_block{rank - 2}d needs a"):
            f(bad, 0.5, 3)
    for shape in ([0, *[5] * (rank - 1)], [5, 0, *[5] * (rank - 2)]):
        empty = torch.ones(shape)
        assert f(empty, 0.5, 3) is empty


def test_modules():
    for module, f, x in (
        (fastdrop.DropBlock2d, drop_block2d, values(2, 3, 9, 9)),
        (fastdrop.DropBlock3d, drop_block3d, values(2, 3, 5, 9, 9)),
    ):
        assert_same_bits(module(P, 3, eps=0.5)(x, **KEY), f(x, P, 3, False, 0.5, **KEY))
        layer = module(P, 3, generator=torch.Generator().manual_seed(3))
        assert_same_bits(layer(x), f(x, P, 3, generator=torch.Generator().manual_seed(3)))
        assert layer.eval()(x) is x
        assert module(P, 3, True)(x, **KEY) is x
        assert repr(module(0.1, 7)) == f"{module.__name__}(p=0.1, block_size=7, inplace=False)"
        with pytest.raises(ValueError):
            module(1.5, 3)(x)
    parameters = list(inspect.signature(drop_block2d).parameters)
    assert parameters[:6] == ["input", "p", "block_size", "inplace", "eps", "training"]
