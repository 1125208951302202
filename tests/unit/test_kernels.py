"""The CPU kernels by themselves, without torch's layers, against the NumPy reference."""

import itertools

import mask_reference
import numpy as np
import pytest
import torch
from cpu_runs import GUARD, SIZES, STARTS, run

SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3e38, -6e4, 6e-8, 1.0, -1.0]


def expected(x: np.ndarray, start=0, seed=7, offset=0, p=0.1) -> np.ndarray:
    """Float32 and float64: the reference; float16 by NumPy's own conversion, rounded once."""
    if x.dtype == np.float16:
        return mask_reference.dropout(x.astype(np.float32), p, seed, offset, start).astype(np.float16)
    return mask_reference.dropout(x, p, seed, offset, start)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether all bits agree; of NaNs, that they are NaNs."""
    bits = f"u{a.dtype.itemsize}"
    return bool(((a.view(bits) == b.view(bits)) | (np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_length_from_every_start(dtype):
    for n, start in itertools.product(SIZES, STARTS):
        x, y = np.random.default_rng(n).standard_normal(n).astype(dtype), np.full(n, 77, dtype)
        run("dropout", dtype, x, y, start=start, seed=2**64 - 1 - n, offset=2**63 + start, p=0.3)
        assert same_bits(y, expected(x, start, 2**64 - 1 - n, 2**63 + start, 0.3)), (n, start)


@pytest.mark.parametrize("p", [2**-40, 1e-9, 1e-5, 0.1, 0.5, 0.9, 1 - 1e-5, 1 - 2**-33, 1.0])
def test_every_probability(p):
    x = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    y = np.empty_like(x)
    run("dropout", "float32", x, y, p=p)
    with np.errstate(divide="ignore"):
        assert same_bits(y, expected(x, p=p))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4, 8, 12, 20, 63])
def test_every_alignment_and_nothing_written_beside_it(dtype, shift):
    n, itemsize = 1500, np.dtype(dtype).itemsize
    memory = np.full((n + 40) * itemsize, GUARD, np.uint8)
    source = np.full((n + 40) * itemsize, GUARD, np.uint8)
    x = source[shift : shift + n * itemsize].view(dtype)
    y = memory[shift : shift + n * itemsize].view(dtype)
    x[:] = np.random.default_rng(shift).standard_normal(n)
    run("dropout", dtype, x, y, start=3)
    assert same_bits(y.copy(), expected(x.copy(), start=3))
    assert (memory[:shift] == GUARD).all()
    assert (memory[shift + n * itemsize :] == GUARD).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_values(dtype):
    with np.errstate(over="ignore"):
        x = np.tile(np.array(SPECIAL).astype(dtype), 300)
        y = np.empty_like(x)
        run("dropout", dtype, x, y, p=0.5)
        assert same_bits(y, expected(x, p=0.5))
    dropped = ~mask_reference.keep_mask(np.arange(x.size), 0.5, 7)
    assert (y[dropped] == 0).all() and not np.signbit(y[dropped]).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_every_16_bit_value_is_scaled_in_float32_and_rounded_once(dtype, p):
    bits = np.arange(65536, dtype=np.uint16)
    x = torch.from_numpy(bits.view(np.int16)).view(getattr(torch, dtype))
    y = np.empty_like(bits)
    run("dropout", dtype, bits, y, p=p)
    keep = torch.from_numpy(mask_reference.keep_mask(np.arange(65536), p, 7))
    scale = float(np.float32(1) / np.float32(1 - p))
    want = torch.where(keep, x.float() * scale, 0.0).to(x.dtype)
    got = torch.from_numpy(y.view(np.int16)).view(x.dtype)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(0).view(torch.int16), want.nan_to_num(0).view(torch.int16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_in_place_equals_out_of_place(dtype):
    x = np.random.default_rng(3).integers(0, 255, 5000 * 8, np.uint8).view({"bfloat16": "u2"}.get(dtype, dtype))
    y = np.empty_like(x)
    run("dropout", dtype, x, y)
    run("dropout", dtype, x, x)
    assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("start", STARTS)
def test_mask_kernel(start):
    y = np.full(3000, GUARD, np.uint8)
    run("mask", "bool", y, y, start=start, offset=5, p=0.7)
    want = mask_reference.keep_mask(np.arange(start, start + 3000, dtype=np.uint64), 0.7, 7, 5)
    assert np.array_equal(y, want.astype(np.uint8))


def test_parts_of_a_stream_make_the_whole():
    x = np.random.default_rng(4).standard_normal(10_000).astype(np.float32)
    whole, parts = np.empty_like(x), np.empty_like(x)
    run("dropout", "float32", x, whole)
    cuts = [0, 1, 9, 1030, 4096, 9999, 10_000]
    for a, b in zip(cuts, cuts[1:], strict=False):
        run("dropout", "float32", x[a:b], parts[a:b], start=a)
    assert np.array_equal(whole, parts)
