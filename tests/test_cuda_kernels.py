"""The GPU kernels' PTX, interpreted, against the CPU kernels bit for bit and against the NumPy reference.

The interpreter checks every access: inside a buffer, aligned, not written to what may only be read.
"""

import mask_reference
import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from emulation import ARCHITECTURES, STORAGE, interpreted
from ptx import Memory, Statistics

from fastdrop_kernels.cpu import kernels as cpu_kernels
from fastdrop_kernels.cpu import launch as cpu_launch
from fastdrop_kernels.cuda.kernels import KERNELS, arch_of
from fastdrop_kernels.formulas import FORMULAS, formula_name

GRID, THREADS = 3, 64  # fewer threads than most cases have tiles: each goes through its loops more than once
SEED, OFFSET = 0x7EDCBA98_76543210, 2**63 + 7
PLACE = 64  # bytes to a boundary where every access is aligned

pytestmark = [
    pytest.mark.parametrize("capability", ARCHITECTURES, ids=arch_of),
    pytest.mark.parametrize(("name", "dtype"), KERNELS),
]


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def values(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Return n values of a dtype, of all magnitudes, special ones among them."""
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal(n) * 10.0 ** rng.uniform(-8, 5, n)
    special = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-40, 3e38, 65504.0, 6e-8, 1e300]
    wide[: len(special)] = special[:n]
    with np.errstate(all="ignore"):
        if dtype == "bool":
            return np.full(n, 77, np.uint8)
        if dtype == "bfloat16":
            return (wide.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return wide.astype(dtype)


def placed(array: np.ndarray, elements: int) -> np.ndarray:
    """Return a copy that begins as many elements after a multiple of 64 bytes."""
    skipped = elements * array.itemsize
    memory = np.zeros(array.nbytes + skipped + 2 * PLACE, np.uint8)
    first = -memory.ctypes.data % PLACE + skipped
    copy = memory[first : first + array.nbytes].view(array.dtype)
    copy[:] = array
    return copy


def numbers(name: str, dtype: str, p: float) -> tuple[float, ...]:
    """Return p as the kernels take it."""
    compute = np.float64 if dtype == "float64" else np.float32
    return round(p * 2**32), *map(float, FORMULAS[formula_name(name)].factors(p, compute))


class Run:
    """A kernel of an architecture, run on arrays of its own."""

    def __init__(self, name: str, dtype: str, capability: tuple[int, int]) -> None:
        self.name, self.dtype, self.kernel = name, dtype, interpreted(name, dtype, capability)

    def __call__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        start: int = 0,
        p: float = 0.3,
        grid: int = GRID,
        seed_in_memory: bool = False,
    ) -> Statistics:
        """Run; x is not written to unless it is y. Every element is read and written once, or the run fails."""
        memory = Memory()
        memory.add(y, y.ctypes.data)
        if x is not y:
            memory.add(x, x.ctypes.data, readonly=True)
        seed, address = SEED, 0
        if seed_in_memory:
            seed, address = 1, memory.add(np.array([SEED]), readonly=True)
        args = [
            x.ctypes.data,
            y.ctypes.data,
            start,
            x.size,
            seed,
            address,
            signed(OFFSET),
            *numbers(self.name, self.dtype, p),
            0,
            0,
        ]
        statistics = self.kernel(grid, THREADS, args, memory)
        read = 0 if self.name == "mask" else x.nbytes
        assert memory.touched(x.ctypes.data)[:2] == (read, read)
        assert memory.touched(y.ctypes.data)[2:] == (y.nbytes, y.nbytes)
        return statistics

    def wanted(self, x: np.ndarray, start: int = 0, p: float = 0.3) -> np.ndarray:
        """Return what the CPU kernel makes of x."""
        y = np.zeros_like(x)
        address = cpu_kernels.address(self.name, self.dtype)
        cpu_launch.run(address, x.ctypes.data, y.ctypes.data, start, x.size, SEED, signed(OFFSET), p, 0, 0)
        return y


@pytest.fixture
def run(name: str, dtype: str, capability: tuple[int, int]) -> Run:
    return Run(name, dtype, capability)


def is_nan(array: np.ndarray, dtype: str) -> np.ndarray:
    return (array & 0x7FFF) > 0x7F80 if dtype == "bfloat16" else np.isnan(array)


def assert_same(got: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    """Check every bit, of a NaN only that it is one."""
    bits = f"u{got.itemsize}"
    differ = (got.view(bits) != wanted.view(bits)) & ~(is_nan(got, dtype) & is_nan(wanted, dtype))
    assert not differ.any(), f"elements {np.flatnonzero(differ)[:4]}: {got[differ][:4]}, not {wanted[differ][:4]}"


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
