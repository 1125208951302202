"""How the GPU kernels' warps touch memory, and what is particular to one dtype."""

import mask_reference
import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from cuda_cases import ARCHITECTURES, SM90, each, often, parametrized
from emulation import PLAIN, STORAGE, interpreted
from ptx import Kernel, Memory

from fastdrop_kernels.cuda.compiler import compile_ptx
from fastdrop_kernels.cuda.cubins import arch_of
from fastdrop_kernels.cuda.dtypes import float32
from fastdrop_kernels.cuda.elementwise import kernel
from fastdrop_kernels.cuda.grid import PARAMETERS
from fastdrop_kernels.formulas import FORMULAS

GRID, THREADS, SEED = 2, 64, 11
COUNT = GRID * THREADS * 16  # elements of one pass of a mask, or two of others

OF_16_BITS = [("dropout", "float16"), ("dropout", "bfloat16")]


def run(of: Kernel, x: np.ndarray, p: float = 0.5, scale: float = 2.0):
    """Return what a kernel makes of x, and its statistics."""
    memory, y = Memory(), np.zeros_like(x)
    tensors, key = (memory.add(x, readonly=True), memory.add(y), 0, 0), (SEED, 0, 0, round(p * 2**32))
    return y, of(GRID, THREADS, [*tensors, 0, x.size, *key, scale, 0.0, 0.0, 0, 0], memory)


@parametrized(each(PLAIN), often(PLAIN))
def test_warps_ask_for_whole_sectors(name, dtype, capability):
    """Half of every sector in float64, and in float32 where lanes do not deal it; else no byte that is not wanted."""
    _, statistics = run(interpreted(name, dtype, capability), np.zeros(COUNT, STORAGE[dtype]))
    times = 2 if dtype == "float64" or (dtype == "float32" and capability < (9, 0)) else 1
    assert statistics.store.ideal == COUNT * np.dtype(STORAGE[dtype]).itemsize // 32
    assert statistics.store.touched == times * statistics.store.ideal
    assert statistics.load.touched == times * statistics.load.ideal
    assert statistics.load.ideal == (0 if name == "mask" else statistics.store.ideal)


@pytest.mark.parametrize(
    ("name", "dtype"), [("dropout", "bfloat16"), pytest.param("mask", "bool", marks=pytest.mark.slow)]
)
def test_every_block_has_its_own_threshold(name, dtype):
    """Thresholds differ by one at most: of a quarter of a million draws, two are decided by that."""
    x = np.full(1 << 18, 0x3F80, STORAGE[dtype]) if dtype == "bfloat16" else np.zeros(1 << 18, STORAGE[dtype])
    y, _ = run(interpreted(name, dtype, (9, 0)), x, p=0.3)
    assert np.array_equal(y != 0, mask_reference.keep_mask(np.arange(x.size), 0.3, SEED))


@pytest.mark.parametrize(
    "capability",
    [pytest.param(each, id=arch_of(each), marks=() if each == SM90 else pytest.mark.slow) for each in ARCHITECTURES],
)
def test_float32_dealt_or_not_is_the_same_from_half_the_sectors(capability):
    x = np.random.default_rng(0).standard_normal(5003).astype(np.float32)
    results, sectors = [], []
    for element in (float32.BLOCKED, float32.LANE_PAIRED):
        ptx = compile_ptx(kernel(FORMULAS["dropout"], element), PARAMETERS, capability, "one_way")
        y, statistics = run(Kernel(ptx), x)
        results.append(y)
        sectors.append(statistics.load.touched)
    assert np.array_equal(*results)
    assert np.array_equal(results[0] != 0, mask_reference.keep_mask(np.arange(x.size), 0.5, SEED))
    assert sectors[0] > 1.9 * sectors[1]


@parametrized(each(OF_16_BITS), often(OF_16_BITS))
@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_every_16_bit_value_is_scaled_in_float32_and_rounded_once(name, dtype, p, capability):
    bits = np.arange(65536, dtype=np.uint16)
    x = torch.from_numpy(bits.view(np.int16)).view(getattr(torch, dtype))
    scale = float(np.float32(1) / np.float32(1 - p))
    got, _ = run(interpreted(name, dtype, capability), bits, p, scale)
    keep = torch.from_numpy(mask_reference.keep_mask(np.arange(65536), p, SEED))
    want = torch.where(keep, x.float() * scale, 0.0).to(x.dtype)
    y = torch.from_numpy(got.view(np.int16)).view(x.dtype)
    assert torch.equal(y.isnan(), want.isnan())
    assert torch.equal(y.nan_to_num(0).view(torch.int16), want.nan_to_num(0).view(torch.int16))
