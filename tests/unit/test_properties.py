"""Whatever the shape, the layout, the dtype, the values, p and the key: forward and backward are the oracle's."""

import math

import numpy as np
import oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import FLOATS, assert_same_bits, meaningful_strides

from fastdrop.functional import dropout, dropout_mask

checked = settings(deadline=None, derandomize=True, max_examples=250)

PROBABILITIES = st.one_of(
    st.floats(0, 1, exclude_min=True, exclude_max=True, allow_subnormal=True),
    st.sampled_from([0.1, 0.5, 0.9, 2**-33, 2**-32, 2**-17, 2**-16, 1e-300, 5e-324]),
    st.sampled_from([1 - 2**-16, 1 - 2**-17, 1 - 2**-32, 1 - 2**-33, 1 - 2**-53, 1.0]),
)
KEYS = st.integers(0, 2**64 - 1)
DTYPES = st.sampled_from(FLOATS)
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 5e-324, 6e-8, 65504.0, -65504.0, 3e38, 1.7e308]


SHAPES = st.lists(st.integers(0, 13), max_size=4)


@st.composite
def tensors(draw, dtype, shapes=SHAPES):
    """Draw a tensor of a drawn shape whose dims are permuted, sliced and expanded views of a larger one's."""
    shape = draw(shapes)
    rank = len(shape)
    expanded = [size > 0 and draw(st.integers(0, 7)) == 0 for size in shape]
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in shape]
    starts = [draw(st.sampled_from([0, 0, 0, 1, 2])) for _ in shape]
    whole = [
        1 if wide else start + size * step
        for size, step, start, wide in zip(shape, steps, starts, expanded, strict=True)
    ]
    order = draw(st.permutations(range(rank)))
    count = draw(st.integers(0, 3)) + math.prod(whole)  # those in front shift the address
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.normal(size=count) * 10.0 ** random.integers(-6, 5, size=count)
    if draw(st.booleans()):
        values[random.random(count) < 0.3] = SPECIAL[draw(st.integers(0, len(SPECIAL) - 1))]
    memory = torch.from_numpy(values).to(dtype)[count - math.prod(whole) :]
    x = memory.reshape([whole[dim] for dim in order]).permute([order.index(dim) for dim in range(rank)])
    for dim, (size, step, start, wide) in enumerate(zip(shape, steps, starts, expanded, strict=True)):
        x = x.expand([size if d == dim else -1 for d in range(rank)]) if wide else x.narrow(dim, start, size * step)
        if not wide:
            x = x[(slice(None),) * dim + (slice(None, None, step),)]
    assert list(x.shape) == shape
    return x


FLOAT_TENSORS = DTYPES.flatmap(tensors)
LARGER_TENSORS = DTYPES.flatmap(lambda dtype: tensors(dtype, st.lists(st.integers(20, 70), min_size=2, max_size=2)))


@checked
@given(st.one_of(FLOAT_TENSORS, LARGER_TENSORS), PROBABILITIES, KEYS, KEYS)
def test_forward(x, p, seed, offset):
    y = dropout(x, p, seed=seed, offset=offset)
    if x.numel() == 0:
        assert y is x
        return
    assert_same_bits(y, oracle.dropout(x, p, seed, offset))
    assert meaningful_strides(y) == meaningful_strides(torch.nn.functional.dropout(x, p))


@checked
@given(st.data(), PROBABILITIES, KEYS, KEYS)
def test_backward_of_any_gradient(data, p, seed, offset):
    dtype = data.draw(DTYPES)
    x = data.draw(tensors(dtype)).detach().requires_grad_()
    gradient = data.draw(tensors(dtype, st.just(list(x.shape))))
    y = dropout(x, p, seed=seed, offset=offset)
    if x.numel() == 0:
        assert y is x
        return
    (got,) = torch.autograd.grad(y, x, gradient)
    assert_same_bits(got, oracle.apply(gradient, oracle.keep(x, p, seed, offset), p))


@checked
@given(FLOAT_TENSORS, PROBABILITIES, KEYS, KEYS)
def test_in_place_on_any_clone(x, p, seed, offset):
    y = x.clone()
    wanted = oracle.dropout(y, p, seed, offset)
    assert dropout(y, p, inplace=True, seed=seed, offset=offset) is y
    assert_same_bits(y, wanted)


@checked
@given(FLOAT_TENSORS, PROBABILITIES, KEYS)
def test_drawn_mask_keeps_or_drops_and_its_backward_agrees(x, p, seed):
    x = torch.where(x.isfinite() & (x != 0), x, 1).detach().requires_grad_()
    if x.numel() == 0:
        return
    torch.manual_seed(seed)
    y = dropout(x, p)
    kept = oracle.bits(torch.autograd.grad(y, x, torch.ones_like(y))[0]) != 0
    assert_same_bits(y, oracle.apply(x, kept, p))
    torch.manual_seed(seed)
    assert_same_bits(dropout(x, p), y)


@checked
@given(st.integers(0, 5000), PROBABILITIES, KEYS, KEYS, st.one_of(st.integers(0, 10_000), st.integers(0, 2**63 - 5000)))
def test_mask(size, p, seed, offset, start):
    wanted = oracle.mask_reference.keep_mask(np.arange(start, start + size, dtype=np.uint64), p, seed, offset)
    got = dropout_mask(size, p, seed=seed, offset=offset, start=start)
    assert np.array_equal(got.numpy(), wanted)
