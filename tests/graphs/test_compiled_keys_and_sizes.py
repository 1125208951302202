"""Compiled dropout: keys, sizes and p change without a new graph, and every call draws a mask."""

import itertools

import mask_reference
import numpy as np
import oracle
import pytest
import torch
from exact import integers
from graphs import (
    BACKENDS,
    HALF,
    LARGE_SEEDS,
    MARKS,
    NO_COMPILER,
    SEED,
    SEEDS,
    SIZES,
    P,
    assert_dropout,
    compiled,
    counted,
    gradient,
    leaf,
    seeded,
    tensor,
    values,
)
from oracle import assert_same_bits

import fastdrop
from fastdrop.functional import dropout, dropout_mask

pytestmark = MARKS


# How often it is compiled


@pytest.mark.parametrize("name", ["seed", "offset"])
def test_keys_change_without_a_new_graph(name):
    def run(x: torch.Tensor, number: int) -> torch.Tensor:
        return dropout(x, P, **({"seed": number} if name == "seed" else {"seed": SEED, "offset": number}))

    call, counter = counted(run)
    x = leaf(values(6, 40))
    for number in SEEDS + LARGE_SEEDS:
        assert_dropout(call(x, number), x, *([number] if name == "seed" else [SEED, number]))
    assert counter.frame_count <= 4  # at first as a constant; then for all; for those that a signed int cannot hold; 0


def test_seeds_may_be_tensors():
    call, counter = counted(lambda x, seed: dropout(x, P, seed=seed, offset=1))
    x = leaf(values(6, 40))
    for seed in SEEDS + LARGE_SEEDS:
        assert_dropout(call(x, tensor(seed)), x, seed, 1)
    assert counter.frame_count == 1


def test_a_seed_that_changes_after_its_use_is_never_misread():
    # A step that is counted in a buffer, say. Torch gives wrong gradients even where such a number is cloned first.
    def count_before(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        step.add_(1)
        return dropout(x, P, seed=step)

    def count_after(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        y = dropout(x, P, seed=step)
        step.add_(1)
        return y

    x, step = leaf(values(300)), torch.tensor(4)
    call, counter = counted(count_before)
    for number in (5, 6, 7):
        assert_dropout(call(x, step), x, number)
    assert counter.frame_count == 1
    y = compiled(lambda x, step: dropout(x, P, seed=step))(x, step)
    step.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(y, x)
    assert_same_bits(compiled(count_after)(x.detach(), step), oracle.dropout(x, P, 8))
    with pytest.raises(Exception, match="modified by an inplace operation"):
        compiled(count_after)(x, step)


@pytest.mark.parametrize(
    "make",
    [values, lambda a, b: values(b, a).t(), lambda a, b: values(a, 2 * b)[:, ::2], lambda a, b: values(a, 3, b).mT],
    ids=["contiguous", "transposed", "sliced", "inner"],
)
def test_one_graph_for_all_sizes(make):
    call, counter = counted(lambda x: dropout(x, P, seed=SEED), dynamic=True)
    counts = set()
    for size in SIZES:
        x = leaf(make(*size))
        assert_dropout(call(x), x)
        counts.add(counter.frame_count)
    assert len(counts) == 1


@pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler")
def test_one_graph_for_all_sizes_by_inductor():
    call, counter = counted(lambda x: dropout(x.t(), P, seed=SEED), "inductor", dynamic=True)
    counts = set()
    for size in SIZES:
        x = leaf(values(*size).t())
        y = call(x)
        assert_same_bits(y.t(), oracle.dropout(x.t(), P, SEED).t())
        assert_same_bits(gradient(y, x), oracle.dropout(torch.ones(size), P, SEED).t())
        counts.add(counter.frame_count)
    assert len(counts) == 1


# Fresh seeds


def three(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return dropout(x, HALF), dropout(x, HALF), dropout(x, HALF)


@BACKENDS
def test_calls_of_one_graph_share_no_mask(backend):
    layer = fastdrop.Dropout(HALF)
    call = compiled(lambda x: (*three(x), layer(x), layer(x)), backend)
    x = leaf(integers(300))
    masks = []
    for results in (call(x), call(x)):
        for y in reversed(results):
            got = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
            assert_same_bits(got, y / x)
            assert set(got.tolist()) == {0.0, 2.0}
        masks += [y != 0 for y in results]
    sigma = (300 * 0.25) ** 0.5
    for one, other in itertools.combinations(masks, 2):
        assert abs((one != other).sum() - 150) < 5 * sigma


@BACKENDS
def test_compiled_masks_are_those_of_eager_code(backend):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *three(x), dropout(x * 2, P), fastdrop.Dropout(P)(x.t())

    x = leaf(integers(20, 15))
    wanted = seeded(run, x)
    state, sums = torch.get_rng_state(), torch.autograd.grad([y.sum() for y in wanted], x)
    got = seeded(compiled(run, backend), x)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(got, wanted, strict=True):
        assert_same_bits(one, other)
    torch.testing.assert_close(torch.autograd.grad([y.sum() for y in got], x), sums, rtol=1e-14, atol=0)


def test_equal_keys_share_a_mask():
    y = compiled(lambda x: (dropout(x, P, seed=SEED), dropout(x, P, seed=SEED)))(values(300))
    assert_same_bits(*y)


# Masks


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_masks(dynamic):
    def run(x: torch.Tensor, seed: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        one = dropout_mask(x.shape, P, seed=seed, offset=2, start=start)
        return one, dropout_mask(x.shape[0], P, seed=3)

    call, counter = counted(run, dynamic=dynamic)
    counts = []
    for (rows, columns), seed in zip(SIZES, SEEDS[:4] + LARGE_SEEDS[:1], strict=True):
        start = 5 * seed % 10**6
        got, other = call(values(rows, columns), seed, start)
        wanted = mask_reference.keep_mask(start + np.arange(rows * columns), P, seed, 2)
        assert torch.equal(got, torch.from_numpy(wanted).reshape(rows, columns))
        assert torch.equal(other, oracle.keep(values(rows), P, 3))
        counts.append(counter.frame_count)
    assert counts[1] == counts[-2]  # the first may be with constants, the last has a seed that no signed int holds


@pytest.mark.parametrize("dynamic", [None, True])
def test_p_may_change(dynamic):
    call = compiled(lambda x, p: (dropout(x, p, seed=3), dropout_mask(x.shape, p, seed=3)), dynamic=dynamic)
    for p in (0.1, 0.25, 0.9):
        y, mask = call(values(300), p)
        assert_same_bits(y, oracle.dropout(values(300), p, 3))
        assert torch.equal(mask, oracle.keep(values(300), p, 3))


@pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler")
def test_masks_by_inductor():
    call = compiled(lambda x, seed: (dropout_mask(x.shape, P, seed=seed), dropout_mask(9, P, seed=3)), "inductor")
    for seed in (1, SEED):
        one, other = call(values(6, 40), tensor(seed))
        assert torch.equal(one, oracle.keep(values(6, 40), P, seed))
        assert torch.equal(other, oracle.keep(values(9), P, 3))
