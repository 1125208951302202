"""dropout_mask: the mask by itself, of any size, from any start, on any device."""

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOATS, error_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastdrop
from fastdrop.functional import dropout, dropout_mask

SIZES = pytest.mark.parametrize(
    ("size", "shape"),
    [
        (3000, (3000,)),
        ((3000,), (3000,)),
        ([30, 100], (30, 100)),
        (torch.Size([2, 3, 500]), (2, 3, 500)),
        ((), ()),
        (0, (0,)),
        ((3, 0), (3, 0)),
    ],
    ids=str,
)


@SIZES
def test_mask_is_the_oracles_and_dropouts(size, shape):
    mask = dropout_mask(size, 0.3, seed=6, offset=7)
    assert mask.shape == shape and mask.dtype is torch.bool and mask.is_contiguous() and mask.device.type == "cpu"
    assert torch.equal(mask, oracle.keep(torch.empty(shape), 0.3, 6, 7))
    if mask.numel():
        assert torch.equal(mask, dropout(torch.ones(shape), 0.3, seed=6, offset=7) != 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [2**-17, 0.01, 0.5, 0.99, 1 - 2**-17])
def test_mask_is_dropouts_for_every_dtype_and_p(p, dtype):
    x = torch.ones(200, 300, dtype=dtype)
    mask = dropout_mask((200, 300), p, seed=6)
    assert torch.equal(mask, dropout(x, p, seed=6) != 0)
    assert torch.equal(mask.reshape(-1), oracle.keep(torch.empty(60_000), p, 6))


STARTS = [1, 7, 8, 1000, 1024, 5 * 1024 - 3, 2**32, 8 * 2**32 - 16, 2**40 + 5, 2**63 - 3000]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("p", [1e-4, 0.3, 0.99999])
def test_mask_from_a_start(p, start):
    index = np.arange(start, start + 3000, dtype=np.uint64)
    wanted = oracle.mask_reference.keep_mask(index, p, 6, 7).reshape(30, 100)
    assert np.array_equal(dropout_mask((30, 100), p, seed=6, offset=7, start=start).numpy(), wanted)


@pytest.mark.parametrize("size", [0, (0,), (3, 0), (0, 5, 2)], ids=str)
@pytest.mark.parametrize("start", [0, 1, 2**63 - 1, 2**63])
def test_no_elements_from_any_start(size, start):
    wanted = torch.empty(size, dtype=torch.bool)
    for mask in (
        dropout_mask(size, 0.3, seed=6, offset=2**64 - 1, start=start),
        torch.ops.fastdrop.dropout_mask(wanted.shape, 0.3, torch.tensor(6), 0, min(start, 2**63 - 1)),
    ):
        assert mask.shape == wanted.shape and mask.dtype is torch.bool


def test_no_elements_from_beyond_all_in_a_graph():
    graph = make_fx(lambda seed: dropout_mask((3, 0), 0.3, seed=seed, start=2**63))(torch.tensor(6))
    assert graph(torch.tensor(6)).shape == (3, 0)
    with FakeTensorMode():
        assert dropout_mask((3, 0), 0.3, seed=6, start=2**63).shape == (3, 0)


@pytest.mark.parametrize("count", [1, 8, 1000, 1025])
def test_up_to_the_last_element(count):
    index = np.arange(2**63 - count, 2**63, dtype=np.uint64)
    wanted = oracle.mask_reference.keep_mask(index, 0.3, 6, 7)
    assert np.array_equal(dropout_mask(count, 0.3, seed=6, offset=7, start=2**63 - count).numpy(), wanted)


@pytest.mark.parametrize("size", [0, 1])
def test_beyond_the_last_element(size):
    with pytest.raises(ValueError, match=r"start \+ elements at most 2\*\*63"):
        dropout_mask(size, 0.3, seed=6, start=2**63 + 1 - size)


def test_parts_of_a_mask_make_the_whole():
    whole = dropout_mask(100_000, 0.3, seed=6)
    cuts = [0, 1, 9, 1024, 5000, 5000, 77_777, 100_000]
    parts = [dropout_mask(end - start, 0.3, seed=6, start=start) for start, end in zip(cuts, cuts[1:], strict=False)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(dropout_mask(10, 0.3, seed=6, start=np.int64(9)), whole[9:19])


@pytest.mark.parametrize(
    ("p", "kept"), [(0.0, True), (0, True), (1.0, False), (1, False), (False, True), (True, False)]
)
def test_mask_at_p_of_0_and_1(p, kept):
    for size in ((), 5, (40, 100)):
        assert (dropout_mask(size, p, seed=6, start=3) == kept).all()


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "meta"])
def test_mask_on_a_device(device):
    mask = dropout_mask((3, 4), 0.3, seed=6, device=device)
    assert mask.device == torch.device(device)
    assert mask.shape == (3, 4) and mask.dtype is torch.bool
    if mask.device.type == "cpu":
        assert torch.equal(mask, oracle.keep(torch.empty(3, 4), 0.3, 6))


@pytest.mark.parametrize(("start", "size"), [(-1, 5), (2**63, 1), (2**63 - 4, 5), (2**64, 0)])
def test_mask_beyond_the_streams_ends(start, size):
    text = f"start has to be at least 0 and start + elements at most 2**63, but got {start} + {size}"
    assert error_of(lambda: dropout_mask(size, 0.3, seed=0, start=start)) == ("ValueError", text)


@pytest.mark.parametrize("start", [1.5, "a", None])
def test_mask_from_what_is_no_index(start):
    assert error_of(lambda: dropout_mask(5, 0.3, seed=0, start=start))[0] == "TypeError"


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), "a", None], ids=str)
def test_mask_with_a_bad_p(p):
    wanted = error_of(lambda: torch.nn.functional.dropout(torch.ones(500), p))
    assert wanted is not None
    assert error_of(lambda: dropout_mask(5, p, seed=0)) == wanted


@pytest.mark.parametrize("size", [-1, (2, -3), 1.5, "a", None])
def test_mask_of_what_is_no_size(size):
    wanted = error_of(lambda: torch.empty(size, device="meta"))
    assert wanted is not None
    assert error_of(lambda: dropout_mask(size, 0.3, seed=0)) == wanted


def test_mask_needs_a_seed():
    assert error_of(lambda: dropout_mask(5, 0.3))[0] == "TypeError"
    assert error_of(lambda: dropout_mask(5, 0.3, seed=None))[0] == "TypeError"


def test_mask_keeps_its_share():
    n = 1_000_000
    for p in (0.001, 0.1, 0.5, 0.9):
        sigma = (n * p * (1 - p)) ** 0.5
        assert abs(int(dropout_mask(n, p, seed=6).sum()) - n * (1 - p)) < 4 * sigma


@pytest.mark.parametrize("start", [1.5, "a", None])
def test_start_of_a_wrong_type_is_named(start):
    with pytest.raises(TypeError, match="start has to be an integer, but got"):
        fastdrop.dropout_mask(4, 0.5, seed=0, start=start)
