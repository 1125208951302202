"""GPU kernels, interpreted, on arrays whose place in memory is known, and what the CPU's kernels make of the same."""

import numpy as np
from emulation import STORAGE, interpreted
from launches import launch_of
from ptx import Memory, Statistics

from fastdrop_kernels.cpu import launch as cpu_launch
from fastdrop_kernels.cpu import registry as cpu_kernels
from fastdrop_kernels.names import split

GRID, THREADS = 3, 64  # fewer threads than most cases have tiles: each goes through its loops more than once
SEED, OFFSET = 0x7EDCBA98_76543210, 2**63 + 7
PLACE = 64  # bytes to a boundary where every access is aligned
LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 250, 256, 263, 1023, 1025, 5003)
STARTS = (0, 1, 7, 8, 1021, 8 * 2**32 - 16, 2**40 + 5)
ALIGNMENTS = ((1, 0, 0), (0, 1, 0), (3, 3, 0), (0, 0, 3), (5, 6, 7), (0, 0, 8))  # elements of x and y, start


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


def address_of(second: np.ndarray | None) -> int:
    return 0 if second is None else second.ctypes.data


def numbers(name: str, dtype: str, p: float) -> tuple[float, ...]:
    """Return p as the kernels take it."""
    compute = np.float64 if dtype == "float64" else np.float32
    return round(p * 2**32), *map(float, split(name)[1].factors(p, compute))


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
        pattern: tuple[int, int] = (0, 0),
        read: int | None = None,
        second: np.ndarray | None = None,
    ) -> Statistics:
        """Run; x is not written to unless it is y. Every element is read and written once, or the run fails.

        pattern: repeat and inner; read: bytes that are to be read, if not all.
        """
        memory = Memory()
        memory.add(y, y.ctypes.data)
        if x is not y:
            memory.add(x, x.ctypes.data, readonly=True)
        if second is not None:
            memory.add(second, second.ctypes.data, readonly=True)
        seed, address = SEED, 0
        if seed_in_memory:
            seed, address = 1, memory.add(np.array([SEED]), readonly=True)
        tensors, key = (x.ctypes.data, y.ctypes.data, address_of(second), 0), (seed, address, signed(OFFSET))
        args = [*tensors, start, x.size, *key, *numbers(self.name, self.dtype, p), *pattern]
        statistics = self.kernel(grid, THREADS, args, memory)
        if read is None:
            read = 0 if self.name == "mask" else x.nbytes
        assert memory.touched(x.ctypes.data)[:2] == (read, read)
        assert memory.touched(y.ctypes.data)[2:] == (y.nbytes, y.nbytes)
        return statistics

    def wanted(
        self,
        x: np.ndarray,
        start: int = 0,
        p: float = 0.3,
        pattern: tuple[int, int] = (0, 0),
        second: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return what the CPU kernel makes of x."""
        y = np.zeros_like(x)
        address = cpu_kernels.address(self.name, self.dtype)
        place = x.ctypes.data, y.ctypes.data, start, x.size
        cpu_launch.run_serial(address, launch_of(*place, SEED, signed(OFFSET), p, *pattern, address_of(second)))
        return y


def is_nan(array: np.ndarray, dtype: str) -> np.ndarray:
    return (array & 0x7FFF) > 0x7F80 if dtype == "bfloat16" else np.isnan(array)


def assert_same(got: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    """Check every bit, of a NaN only that it is one."""
    bits = f"u{got.itemsize}"
    differ = (got.view(bits) != wanted.view(bits)) & ~(is_nan(got, dtype) & is_nan(wanted, dtype))
    assert not differ.any(), f"elements {np.flatnonzero(differ)[:4]}: {got[differ][:4]}, not {wanted[differ][:4]}"


def check_lengths(run: Run) -> None:
    """Check every length, from every start, with memory aligned as the stream is: heads, whole tiles and tails."""
    for case, n in enumerate(LENGTHS):
        start = STARTS[case % len(STARTS)]
        x = placed(values(run.dtype, n, n), start % 16)
        y = placed(np.zeros_like(x), start % 16)
        run(x, y, start)
        assert_same(y, run.wanted(x, start), run.dtype)


def check_alignments(run: Run) -> None:
    """Check memory that lies otherwise than the stream, and otherwise for x than for y."""
    for of_x, of_y, start in ALIGNMENTS:
        x, y = placed(values(run.dtype, 700), of_x), placed(np.zeros(700, STORAGE[run.dtype]), of_y)
        run(x, y, start)
        assert_same(y, run.wanted(x, start), run.dtype)


def check_beyond_32_bits(run: Run) -> None:
    """Check one block of a launch on 2**36 elements, with no memory but where this block works."""
    per_block = THREADS * (16 if run.dtype == "bool" else 8)
    block = 2**36 // per_block - 1  # the last
    x, y = placed(values(run.dtype, per_block), 0), placed(np.zeros(per_block, STORAGE[run.dtype]), 0)
    memory, before = Memory(), block * x.nbytes
    memory.add(x, x.ctypes.data, readonly=True)
    memory.add(y, y.ctypes.data)
    key = SEED, 0, signed(OFFSET), *numbers(run.name, run.dtype, 0.3), 0, 0
    args = [x.ctypes.data - before, y.ctypes.data - before, 0, 0, 0, 2**36 + 5, *key]
    run.kernel(2**31 - 1, THREADS, args, memory, blocks=[block])
    assert_same(y, run.wanted(x, block * per_block), run.dtype)
