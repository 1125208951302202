"""Kernels for masks that are broadcast, and those of other formulas: their PTX, interpreted, against the CPU's bits."""

from collections.abc import Iterator

import mask_reference
import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_cases import ARCHITECTURES, parametrized
from cuda_runs import OFFSET, SEED, Run, assert_same, placed, values
from cuda_tools import needs_tools
from emulation import STORAGE
from machine_code import REGISTERS, report

from fastdrop_kernels.names import FLOATS, KERNELS

RUNS = [(1, 1), (5, 1), (8, 1), (1024, 1), (10**6, 1), (2**33, 1)]  # repeat, inner
ROWS = [(1, 40), (3, 8), (3, 16), (2, 37), (40, 1000), (7, 1100), (2**20, 24), (3, 2**40)]
EVERY_DTYPE = ("segments_dropout", "repeated_rows_dropout")
NAMES = sorted(
    {name for name, _ in KERNELS if "gaussian" not in name} - {"dropout", "mask", "dropout_add"}
)  # test_cuda_normals has those


def every_kernel() -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield each kernel with dtypes and architectures in turn: to compile all of them takes minutes."""
    for i, name in enumerate(NAMES):
        for j, dtype in enumerate(FLOATS):
            if name in EVERY_DTYPE or j % 2 == i % 2:
                yield name, dtype, ARCHITECTURES[(i + j + 3) % len(ARCHITECTURES)]


IN_TURN = list(every_kernel())
# Of dropout each dtype, for one of the two layouts; test_cuda_family has all kernels in float32.
ALWAYS = [kernel for kernel in IN_TURN if kernel[0] == EVERY_DTYPE[FLOATS.index(kernel[1]) % 2]]
kernels = parametrized(IN_TURN, ALWAYS)
of_dropout = parametrized([kernel for kernel in IN_TURN if kernel[0] in EVERY_DTYPE], ALWAYS)


def patterns(name: str) -> list[tuple[int, int]]:
    return RUNS if name.startswith("segments") else ROWS if name.startswith("repeated_rows") else [(0, 0)]


def parts(case: int) -> list[tuple[int, int, float]]:
    """Return parts of a mask, by their elements, start and p; one starts elsewhere for each pattern."""
    return [(1, 7, 0.5), (250, 0, 0.3), (1003, 8 + 5 * case, 0.6), (77, 3, 1.0), (300, 2**40 + 5, 0.3)]


def keep(n: int, start: int, p: float, pattern: tuple[int, int]) -> np.ndarray:
    """Return the mask of n elements from `start` on."""
    e, (repeat, inner) = np.arange(start, start + n, dtype=np.uint64), pattern
    return mask_reference.keep_mask(e // (repeat * inner) * inner + e % inner, p, SEED, OFFSET)


def check(run: Run, pattern: tuple[int, int], n: int, start: int, p: float) -> None:
    """Check a part of a mask: the CPU's bits, and of segments that none is read which is dropped."""
    x = placed(values(run.dtype, n, n), start % 16)
    y = placed(np.zeros_like(x), start % 16)
    read = int(keep(n, start, p, pattern).sum()) * x.itemsize if run.name.startswith("segments") else None
    run(x, y, start, p, pattern=pattern, read=read)
    assert_same(y, run.wanted(x, start, p, pattern), run.dtype)


@kernels
def test_every_kernel_gives_the_cpus_bits_and_reads_no_segment_that_is_dropped(name, dtype, capability):
    """Two parts of a mask for each pattern, in turn."""
    run, layouts = Run(name, dtype, capability), patterns(name)
    for case, pattern in enumerate(layouts):
        every = parts(case)
        for part in (every[case % len(every)], every[(case + 2) % len(every)]) if len(layouts) > 1 else every:
            check(run, pattern, *part)


@pytest.mark.slow
@kernels
def test_every_part_of_every_pattern(name, dtype, capability):
    run = Run(name, dtype, capability)
    for case, pattern in enumerate(patterns(name)):
        for part in parts(case):
            check(run, pattern, *part)


@of_dropout
def test_the_mask_is_the_references(name, dtype, capability):
    n, start, pattern = 3000, 2**33 + 16, (5, 1) if name.startswith("segments") else (3, 24)
    x = placed(np.ones(n, np.uint16) * 0x3F80 if dtype == "bfloat16" else np.ones(n, STORAGE[dtype]), 0)
    y = placed(np.zeros_like(x), 0)
    kept = keep(n, start, 0.7, pattern)
    read = int(kept.sum()) * x.itemsize if name.startswith("segments") else None
    Run(name, dtype, capability)(x, y, start, 0.7, pattern=pattern, read=read)
    assert np.array_equal(y != 0, kept)


@needs_tools
@kernels
def test_code_has_no_spills_and_no_calls(name, dtype, capability):
    told = report(name, dtype, capability)
    assert told.resources[1:] == (0, 0, 0)
    assert told.resources.registers <= REGISTERS
