"""The GPU kernels' PTX, interpreted, against the CPU kernels bit for bit and against the NumPy reference.

The interpreter checks every access: inside a buffer, aligned, not written to what may only be read.
"""

import mask_reference
import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_cases import each, often, parametrized
from cuda_runs import (
    OFFSET,
    SEED,
    Run,
    assert_same,
    check_alignments,
    check_beyond_32_bits,
    check_lengths,
    placed,
    values,
)
from emulation import PLAIN, STORAGE

pytestmark = parametrized(each(PLAIN), often(PLAIN))
PROBABILITIES = (0.0, 2**-40, 1e-5, 0.5, 1 - 2**-16 - 2**-20, 1 - 2**-17, 1 - 2**-33, 1.0)


@pytest.fixture
def run(name: str, dtype: str, capability: tuple[int, int]) -> Run:
    return Run(name, dtype, capability)


def test_every_length_from_every_start(run):
    check_lengths(run)


def test_every_alignment(run):
    check_alignments(run)


def test_in_place(run, dtype):
    x = placed(values(dtype, 1003), 0)
    wanted = run.wanted(x)
    run(x, x)
    assert_same(x, wanted, dtype)


def test_every_probability(run, dtype):
    x = placed(values(dtype, 4099), 0)
    for p in PROBABILITIES:
        y = placed(np.zeros_like(x), 0)
        run(x, y, p=p)
        assert_same(y, run.wanted(x, p=p), dtype)


def test_the_mask_is_the_references(run, dtype):
    n, start = 3000, 2**33 + 16
    x = placed(np.ones(n, np.uint16) * 0x3F80 if dtype == "bfloat16" else np.ones(n, STORAGE[dtype]), 0)
    y = placed(np.zeros_like(x), 0)
    run(x, y, start, p=0.7)
    kept = mask_reference.keep_mask(np.arange(start, start + n, dtype=np.uint64), 0.7, SEED, OFFSET)
    assert np.array_equal(y != 0, kept)


def test_a_seed_in_memory_is_the_same_seed(run, dtype):
    x = placed(values(dtype, 1030), 0)
    y = placed(np.zeros_like(x), 0)
    run(x, y, seed_in_memory=True)
    assert_same(y, run.wanted(x), dtype)


def test_any_grid_gives_the_same(run, dtype):
    x = placed(values(dtype, 9001), 0)
    wanted = run.wanted(x)
    for grid in (1, 2, 7, 200):
        y = placed(np.zeros_like(x), 0)
        run(x, y, grid=grid)
        assert_same(y, wanted, dtype)


def test_elements_and_threads_beyond_32_bits(run):
    check_beyond_32_bits(run)
