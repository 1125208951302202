"""Runs and rows of lengths around those at which the CPU kernels' loops change, at addresses of any alignment."""

import mask_reference
import numpy as np
import pytest
import torch
from launches import launch_of

from fastdrop_kernels.cpu import launch
from fastdrop_kernels.cpu.registry import address
from fastdrop_kernels.cpu.segments import PREFETCH_DISTANCE
from fastdrop_kernels.cpu.stores import NONTEMPORAL_MIN_BYTES

GUARD, GUARDS = 77.0, 80  # elements before and after
SEED, OFFSET, P = 7, 5, 0.3
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.float16: "float16", torch.bfloat16: "bfloat16"}
AROUND = [31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 256, 257, 1023, 1024, 1025, 2049]
LARGE = int(NONTEMPORAL_MIN_BYTES) // 8 + 3  # float64
PER_PREFETCH = int(PREFETCH_DISTANCE) // 8

shifts = pytest.mark.parametrize("shift", [0, 1])
dtypes = pytest.mark.parametrize("dtype", NAMES)


def kept(count: int, start: int, repeat: int, inner: int, p: float) -> torch.Tensor:
    """Return which elements are kept, whose memory is (outer, repeat, inner) and whose noise is (outer, 1, inner)."""
    e = np.arange(start, start + count)
    draws = mask_reference.keep_mask(np.arange((start + count) // repeat + inner), p, SEED, OFFSET)
    return torch.from_numpy(draws[e // (repeat * inner) * inner + e % inner])


def wanted(x: torch.Tensor, keep: torch.Tensor, p: float) -> torch.Tensor:
    """Return x, scaled in the type that is computed in and rounded once, where it is kept, else +0."""
    compute = torch.float64 if x.dtype is torch.float64 else torch.float32
    scale = torch.ones((), dtype=compute) / torch.tensor(1 - p, dtype=compute)
    return torch.where(keep, (x.to(compute) * scale).to(x.dtype), torch.zeros((), dtype=x.dtype))


def check(name: str, dtype: torch.dtype, count: int, start: int, shift: int, repeat: int, inner: int, p: float = P):
    """Check a kernel that writes to other memory, and in place, and what lies around it."""
    source = torch.randn(count + GUARDS, generator=torch.Generator().manual_seed(count)).to(dtype)
    x = source[shift : shift + count]
    result = wanted(x, kept(count, start, repeat, inner, p), p)
    memory = torch.full((count + 2 * GUARDS,), GUARD, dtype=dtype)
    y = memory[GUARDS - shift : GUARDS - shift + count]
    for source in (x, y):
        y.copy_(x)
        place = source.data_ptr(), y.data_ptr(), start, count
        launch.run_serial(address(name, NAMES[dtype]), launch_of(*place, SEED, OFFSET, p, repeat, inner))
        assert torch.equal(y, result)
        assert torch.equal(torch.signbit(y), torch.signbit(result)), "a dropped element is +0"
    assert (memory[: GUARDS - shift] == GUARD).all()
    assert (memory[GUARDS - shift + count :] == GUARD).all()


@shifts
@dtypes
@pytest.mark.parametrize("length", AROUND)
def test_runs(dtype, length, shift):
    for start in (0, 5):
        check("segments_dropout", dtype, 9 * length + 11, start, shift, length, 1)


@shifts
@dtypes
@pytest.mark.parametrize("inner", AROUND)
def test_rows(dtype, inner, shift):
    for start in (0, 5):
        check("repeated_rows_dropout", dtype, 9 * inner + 11, start, shift, 3, inner)


@dtypes
def test_more_rows_than_are_taken_together(dtype):
    for inner in (1, 7, 128, 200):
        check("repeated_rows_dropout", dtype, 150 * inner, 0, 0, 70, inner)


@pytest.mark.parametrize("p", [0.3, 0.97])
@pytest.mark.parametrize(
    "length",
    [200, PER_PREFETCH - 1, PER_PREFETCH, PER_PREFETCH + 1, 3 * PER_PREFETCH + 16, 5000, LARGE // 2, 2 * LARGE],
)
@pytest.mark.sampled(3)
def test_runs_of_large_arrays_ask_for_what_comes_next(length, p):
    """Where a run is read in two parts: from its own, ahead, and the last of it with the next that is kept."""
    for shift in (0, 1):
        check("segments_dropout", torch.float64, LARGE, 0, shift, length, 1, p)


def test_large_arrays_of_rows():
    for inner in (100, 128, 1024, 5000):
        check("repeated_rows_dropout", torch.float64, LARGE, 0, 0, 40, inner)
