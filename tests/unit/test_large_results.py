"""Results of so many bytes that the CPU kernels write them past the caches, beside the NumPy reference."""

import mask_reference
import normal_reference
import numpy as np
import pytest
from launches import launch_of

from fastdrop_kernels.cpu import launch
from fastdrop_kernels.cpu.registry import address
from fastdrop_kernels.cpu.stores import LINE, NONTEMPORAL_MIN_BYTES

ITEMSIZE = 8
LARGE = int(NONTEMPORAL_MIN_BYTES) // ITEMSIZE
GUARD = 77.0
P, SEED, OFFSET = 0.3, 7, 5


def aligned(count: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Return memory full of guards, and `count` float64 in its middle, `shift` elements after a cache line's start."""
    memory = np.full(count + 64, GUARD)
    first = -memory.ctypes.data % int(LINE) // ITEMSIZE + 8 + shift
    return memory, memory[first : first + count]


def run(name: str, x: np.ndarray, y: np.ndarray, start: int = 0, repeat: int = 0, inner: int = 0) -> None:
    place = x.ctypes.data, y.ctypes.data, start, x.size
    launch.run_serial(address(name, "float64"), launch_of(*place, SEED, OFFSET, P, repeat, inner))


def keep_of_noise(count: int, start: int, repeat: int, inner: int) -> np.ndarray:
    """Return which elements are kept, whose memory is (outer, repeat, inner) and whose noise is (outer, 1, inner)."""
    e = np.arange(start, start + count)
    draws = mask_reference.keep_mask(np.arange((start + count) // repeat + inner), P, SEED, OFFSET)
    return draws[e // (repeat * inner) * inner + e % inner]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("start", [0, 5, 1024])
@pytest.mark.parametrize(
    ("name", "repeat", "inner"),
    [("dropout", 0, 0), ("segments_dropout", 1024, 1), ("segments_dropout", 64, 1), ("segments_dropout", 49, 1),
     ("repeated_rows_dropout", 16, 256), ("repeated_rows_dropout", 3, 100)],
)  # fmt: skip
@pytest.mark.sampled(3)
def test_masks(name, repeat, inner, start, shift):
    count = LARGE + 3
    x = np.random.default_rng(start).standard_normal(count)
    memory, y = aligned(count, shift)
    run(name, x, y, start, repeat, inner)
    if repeat:
        keep = keep_of_noise(count, start, repeat, inner)
    else:
        keep = mask_reference.keep_mask(np.arange(start, start + count), P, SEED, OFFSET)
    assert np.array_equal(y, np.where(keep, x * (1 / (1 - P)), 0))
    assert (memory == GUARD).sum() == 64, "something was written beside the results"


def test_all_factors_of_a_formula():
    count = LARGE
    x = np.random.default_rng(1).standard_normal(count)
    _, large = aligned(count, 0)
    run("segments_alpha_dropout", x, large, repeat=64, inner=1)
    parts = np.empty_like(x)
    for first in range(0, count, count // 4):
        part = slice(first, first + count // 4)
        run("segments_alpha_dropout", x[part], parts[part], first, 64, 1)
    assert np.array_equal(large, parts)
    assert np.unique(large[~keep_of_noise(count, 0, 64, 1)]).size == 1


def test_normal_numbers():
    count = LARGE + 1
    _, y = aligned(count, 0)
    run("gaussian_noise", np.zeros(count), y, start=3)
    few = np.r_[0:1000, count - 1000 : count]
    want = P * normal_reference.normals(few + 3, SEED, OFFSET)
    assert np.abs(y[few] - want).max() < 1e-6
    assert not (y == GUARD).any()


def test_in_place():
    memory, y = aligned(LARGE, 0)
    y[:] = x = np.random.default_rng(2).standard_normal(LARGE)
    run("dropout", y, y)
    keep = mask_reference.keep_mask(np.arange(LARGE), P, SEED, OFFSET)
    assert np.array_equal(y, np.where(keep, x * (1 / (1 - P)), 0))
    assert (memory == GUARD).sum() == 64


@pytest.mark.parametrize("row", [0, 64, 100])
def test_a_mask_from_memory(row):
    count = LARGE + 300 - LARGE % 100
    x = np.random.default_rng(4).standard_normal(count)
    keep = np.random.default_rng(5).random(-(-count // row) if row else count) < 0.7
    memory, y = aligned(count, 0)
    name, place = "masked_scale_rows" if row else "masked_scale", (x.ctypes.data, y.ctypes.data, 0, count)
    launch.run_serial(address(name, "float64"), launch_of(*place, 0, 0, 1.5, inner=row, second=keep.ctypes.data))
    kept = np.repeat(keep, row)[:count] if row else keep
    assert np.array_equal(y, np.where(kept, x * 1.5, 0))
    assert (memory == GUARD).sum() == 64
