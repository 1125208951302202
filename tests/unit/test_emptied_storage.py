"""Tensors whose storage was emptied, as sharded training does between steps: an error, wherever in it they begin."""

import pytest
import torch

import fastdrop
from fastdrop._devices import kernels
from fastdrop.functional import (
    alpha_dropout,
    drop_block2d,
    drop_path,
    dropout,
    dropout1d,
    embedding_dropout,
    gaussian_dropout,
    gaussian_noise,
)

SHAPE = (4, 6, 8)
OFFSETS = pytest.mark.parametrize("offset", [0, 1, 3, 1024])


VIEWS = {
    "transposed": lambda x: x.transpose(0, 2),
    "sliced": lambda x: x[..., ::2],
    "block": lambda x: x.unflatten(0, (1, 4)),
}


def emptied(
    offset: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32, view: str | None = None
) -> torch.Tensor:
    """Return a tensor that begins `offset` elements after the begin of a storage without memory."""
    base = torch.ones(offset + torch.Size(shape).numel(), dtype=dtype)
    x = base[offset:].view(shape)
    if view is not None:
        x = VIEWS[view](x)
    base.untyped_storage().resize_(0)
    return x


def ones() -> torch.Tensor:
    return torch.ones(SHAPE, requires_grad=True)


def installed(function, x, **arguments):
    with fastdrop.accelerated(bernoulli=True):
        return function(x, 0.5, **arguments)


CALLS = {
    "dropout": lambda x: dropout(x, 0.5),
    "in place": lambda x: dropout(x, 0.5, inplace=True),
    "seed": lambda x: dropout(x, 0.5, seed=1),
    "channels": lambda x: dropout1d(x, 0.5),
    "channels in place": lambda x: dropout1d(x, 0.5, inplace=True),
    "noise_shape": lambda x: dropout(x, 0.5, noise_shape=(1, 6, 1)),
    "alpha": lambda x: alpha_dropout(x, 0.5, training=True),
    "gaussian": lambda x: gaussian_dropout(x, 0.5),
    "noise": lambda x: gaussian_noise(x, 0.5),
    "path": lambda x: drop_path(x, 0.5, training=True),
    "block": lambda x: drop_block2d(x, 0.5, 3),
    "transposed": lambda x: dropout(x, 0.5),
    "transposed in place": lambda x: dropout(x, 0.5, inplace=True),
    "sliced": lambda x: dropout(x, 0.5),
    "sliced in place": lambda x: dropout(x, 0.5, inplace=True),
    "gradient": lambda x: dropout(ones(), 0.5).backward(x),
    "sliced gradient": lambda x: dropout(ones()[..., ::2], 0.5).backward(x),
    "gradient of channels": lambda x: dropout1d(ones(), 0.5).backward(x),
    "gradient of blocks": lambda x: drop_block2d(ones()[None], 0.5, 3).backward(x),
    "gradient of words": lambda x: embedding_dropout(
        torch.ones(4, 6, dtype=torch.int64), torch.ones(2, 8, requires_grad=True), 0.5
    ).backward(x),
    "installed": lambda x: installed(torch.nn.functional.dropout, x),
    "installed in place": lambda x: installed(torch.nn.functional.dropout, x, inplace=True),
    "installed channels": lambda x: installed(torch.nn.functional.dropout1d, x),
}


@OFFSETS
@pytest.mark.parametrize("into", [False, True])
def test_no_kernel_is_launched_from_or_into_emptied_storage(into, offset):
    x = emptied(offset, view=None)
    source, result = (torch.ones(SHAPE), x) if into else (x, torch.empty(SHAPE))
    with pytest.raises(ValueError, match="kernel needs memory for its input and its result, but got a tensor without"):
        kernels.launch_into("dropout", source, result, 0.5, 1, 0)


@OFFSETS
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.sampled(3)
def test_emptied_storage_is_an_error(name, offset):
    with pytest.raises(
        RuntimeError, match="needs memory, but got a tensor of (192|96) elements whose storage is empty"
    ):
        view = next((view for view in VIEWS if view in name), None)
        CALLS[name](emptied(offset, view=view))


@OFFSETS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_of_every_size_of_element(dtype, offset):
    with pytest.raises(RuntimeError, match="whose storage is empty"):
        dropout(emptied(offset, dtype=dtype), 0.5)


@OFFSETS
def test_nothing_is_needed_for_no_elements(offset):
    assert dropout(emptied(offset, (0, 3)), 0.5).shape == (0, 3)


@OFFSETS
def test_memory_that_comes_back_is_used(offset):
    x = emptied(offset)
    x.untyped_storage().resize_(4 * (offset + 192))
    x.fill_(1)
    assert set(dropout(x, 0.5).flatten().tolist()) == {0.0, 2.0}


@OFFSETS
@pytest.mark.parametrize("inplace", [False, True])
def test_zeros_without_memory(offset, inplace):
    x = torch._efficientzerotensor(192 + offset)[offset:]
    native = [torch.ones(192).mul(x) for _ in range(2)]  # torch itself takes such a tensor
    assert not any(map(torch.count_nonzero, native))
    if inplace:
        with pytest.raises(RuntimeError, match="ZeroTensors are immutable"):
            dropout(x, 0.5, inplace=True)
    else:
        assert dropout(x, 0.5).tolist() == [0.0] * 192
