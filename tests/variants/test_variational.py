"""Variational dropout: one mask of the stream for all time steps."""

import re

import broadcast_masks
import pytest
import torch
from broadcast_masks import values
from oracle import FLOATS, assert_same_bits, error_of, meaningful_strides

import fastdrop
from fastdrop.functional import variational_dropout

P, SEED, OFFSET = 0.4, 11, 3
KEY = {"seed": SEED, "offset": OFFSET}
INPUTS = {
    "odd": lambda dtype: values(5, 3, 7, dtype=dtype),
    "one-step": lambda dtype: values(1, 4, 9, dtype=dtype),
    "one-sequence": lambda dtype: values(9, 1, 5, dtype=dtype),
    "one-feature": lambda dtype: values(9, 5, 1, dtype=dtype),
    "threads": lambda dtype: values(50, 3, 1021, dtype=dtype),
    "time-and-batch-exchanged": lambda dtype: values(6, 5, 8, dtype=dtype).transpose(0, 1),
    "permuted": lambda dtype: values(6, 5, 8, dtype=dtype).permute(2, 0, 1),
    "sliced": lambda dtype: values(30, 9, 5, dtype=dtype)[::2, 1:],
    "expanded": lambda dtype: values(1, 9, 2, dtype=dtype).expand(20, 9, 2),
    "unbatched": lambda dtype: values(20, 33, dtype=dtype),
    "unbatched-transposed": lambda dtype: values(20, 33, dtype=dtype).t(),
}
EACH_LAYOUT = pytest.mark.parametrize("batch_first", [False, True])


def f(x: torch.Tensor, batch_first: bool = False, p: float = P, inplace: bool = False) -> torch.Tensor:
    return variational_dropout(x, p, True, inplace, batch_first=batch_first, **KEY)


def wanted(x: torch.Tensor, batch_first: bool, p: float = P) -> torch.Tensor:
    """Return Gal and Ghahramani's x * m / (1 - p), with m drawn for each sequence and feature, not for each step."""
    if x.dim() == 2:
        noise = (1, x.shape[1])
    elif batch_first:
        noise = (x.shape[0], 1, x.shape[2])
    else:
        noise = (1, x.shape[1], x.shape[2])
    return broadcast_masks.drop(x, noise, p, SEED, OFFSET)


@EACH_LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
def test_masks_are_the_streams(make, dtype, batch_first):
    x = make(dtype)
    y = f(x, batch_first)
    assert_same_bits(y, wanted(x, batch_first))
    assert meaningful_strides(y) == meaningful_strides(torch.empty_like(x))


@EACH_LAYOUT
@pytest.mark.parametrize("make", [INPUTS["odd"], INPUTS["permuted"], INPUTS["unbatched"]])
def test_in_place(make, batch_first):
    x = make(torch.float32)
    result = wanted(x, batch_first)
    assert f(x, batch_first, inplace=True) is x
    assert_same_bits(x, result)


def test_all_steps_share_a_mask_and_sequences_do_not():
    y = f(torch.ones(10, 4, 64))
    assert torch.equal(y, y[:1].expand(10, 4, 64))
    assert not any(torch.equal(y[0, i], y[0, j]) for i in range(4) for j in range(i))


def test_a_sequence_has_the_same_mask_in_either_layout():
    x = values(7, 4, 6)
    assert_same_bits(f(x.transpose(0, 1).contiguous(), True).transpose(0, 1), f(x))


def test_rate():
    n = 200_000
    rate = (variational_dropout(torch.ones(1, n), 0.3, seed=5) == 0).double().mean().item()
    assert abs(rate - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5


def test_complex():
    x = values(5, 4, 6, 2)
    kept = wanted(torch.ones(5, 4, 6), False)[..., None]
    assert torch.allclose(torch.view_as_real(f(torch.view_as_complex(x))), x * kept)


@EACH_LAYOUT
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_p_of_0_and_1(p, batch_first):
    x = values(5, 4, 3)
    y = f(x, batch_first, p)
    assert_same_bits(y, x if p == 0 else torch.zeros_like(x))
    assert (y is x) == (p == 0)


def test_a_dropped_feature_is_plus_zero_whatever_it_was():
    dropped = wanted(torch.ones(3, 2, 8), False) == 0
    x = torch.full((3, 2, 8), -1.0)
    x[dropped] = float("nan")
    y = f(x)
    assert dropped.any()
    assert_same_bits(y, wanted(torch.full((3, 2, 8), -1.0), False))


@EACH_LAYOUT
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 3)], ids=str)
def test_empty(shape, batch_first):
    x = torch.ones(shape)
    assert f(x, batch_first) is x


@EACH_LAYOUT
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)], ids=str)
def test_other_ranks(shape, training, batch_first):
    layout = "(N, T, C)" if batch_first else "(T, N, C)"
    text = f"variational_dropout needs a tensor of shape {layout} or (T, C), but got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        variational_dropout(torch.ones(shape), 0.5, training, batch_first=batch_first)


@pytest.mark.parametrize("x", [None, [1.0], torch.ones(3, 4, dtype=torch.int64)], ids=repr)
def test_inputs_that_are_no_sequences(x):
    with pytest.raises(TypeError, match="^variational_dropout needs a"):
        f(x)


@pytest.mark.parametrize("p", [-0.1, 1.1, "a", None], ids=str)
def test_bad_p(p):
    native = error_of(lambda: torch.nn.functional.dropout(torch.ones(2, 3), p))
    assert native is not None
    assert error_of(lambda: variational_dropout(torch.ones(2, 3), p, training=False)) == native
    assert error_of(lambda: fastdrop.VariationalDropout(p)) == native


def test_module():
    x = values(6, 5, 8)
    for batch_first in (False, True):
        layer = fastdrop.VariationalDropout(P, batch_first)
        assert_same_bits(layer(x, **KEY), f(x, batch_first))
        assert layer.eval()(x) is x
    assert fastdrop.VariationalDropout(P, inplace=True)(x, **KEY) is x
    layer = fastdrop.VariationalDropout(P, generator=torch.Generator().manual_seed(3))
    again = fastdrop.VariationalDropout(P, generator=torch.Generator().manual_seed(3))
    assert_same_bits(layer(x), again(x))
    assert not torch.equal(layer(x), layer(x))


def test_names():
    assert fastdrop.LockedDropout is fastdrop.VariationalDropout
    assert fastdrop.VariationalDropout().p == 0.5
    assert repr(fastdrop.LockedDropout(0.3)) == "VariationalDropout(p=0.3, batch_first=False, inplace=False)"
