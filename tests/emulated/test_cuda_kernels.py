"""The GPU kernels' PTX, interpreted, against the CPU kernels bit for bit and against the NumPy reference.

The interpreter checks every access: inside a buffer, aligned, not written to what may only be read.
"""

import mask_reference
import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_runs import OFFSET, SEED, THREADS, Run, assert_same, numbers, placed, signed, values
from emulation import ARCHITECTURES, PLAIN, STORAGE
from ptx import Memory

from fastdrop_kernels.cuda.cubins import arch_of

pytestmark = [
    pytest.mark.parametrize("capability", ARCHITECTURES, ids=arch_of),
    pytest.mark.parametrize(("name", "dtype"), PLAIN),
]


@pytest.fixture
def run(name: str, dtype: str, capability: tuple[int, int]) -> Run:
    return Run(name, dtype, capability)


LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 250, 256, 263, 1023, 1025, 5003)
STARTS = (0, 1, 7, 8, 1021, 8 * 2**32 - 16, 2**40 + 5)


def test_every_length_from_every_start(run, dtype):
    """With memory aligned as the stream is, so that there are heads, whole tiles and tails."""
    for case, n in enumerate(LENGTHS):
        start = STARTS[case % len(STARTS)]
        x = placed(values(dtype, n, n), start % 16)
        y = placed(np.zeros_like(x), start % 16)
        run(x, y, start)
        assert_same(y, run.wanted(x, start), dtype)


@pytest.mark.parametrize(("of_x", "of_y", "start"), [(1, 0, 0), (0, 1, 0), (3, 3, 0), (0, 0, 3), (5, 6, 7), (0, 0, 8)])
def test_every_alignment(run, dtype, of_x, of_y, start):
    x, y = placed(values(dtype, 700), of_x), placed(np.zeros(700, STORAGE[dtype]), of_y)
    run(x, y, start)
    assert_same(y, run.wanted(x, start), dtype)


def test_in_place(run, dtype):
    x = placed(values(dtype, 1003), 0)
    wanted = run.wanted(x)
    run(x, x)
    assert_same(x, wanted, dtype)


@pytest.mark.parametrize("p", [0.0, 2**-40, 1e-5, 0.5, 1 - 2**-16 - 2**-20, 1 - 2**-17, 1 - 2**-33, 1.0])
def test_every_probability(run, dtype, p):
    x = placed(values(dtype, 4099), 0)
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


def test_elements_and_threads_beyond_32_bits(run, dtype):
    """One block of a launch on 2**36 elements, with no memory but where this block works."""
    per_block = THREADS * (16 if dtype == "bool" else 8)
    block = 2**36 // per_block - 1  # the last
    x, y = placed(values(dtype, per_block), 0), placed(np.zeros(per_block, STORAGE[dtype]), 0)
    memory, before = Memory(), block * x.nbytes
    memory.add(x, x.ctypes.data, readonly=True)
    memory.add(y, y.ctypes.data)
    key = SEED, 0, signed(OFFSET), *numbers(run.name, dtype, 0.3), 0, 0
    args = [x.ctypes.data - before, y.ctypes.data - before, 0, 2**36 + 5, *key]
    run.kernel(2**31 - 1, THREADS, args, memory, blocks=[block])
    assert_same(y, run.wanted(x, block * per_block), dtype)
