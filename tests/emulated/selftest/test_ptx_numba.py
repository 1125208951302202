"""Kernels of numba.cuda, run by the PTX interpreter, against NumPy, Python and the mask's specification."""

import math
from typing import Any

import mask_reference
import numpy as np
import pytest
from ptx import Kernel, Memory

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]


@pytest.fixture
def cuda() -> Any:
    """Import numba.cuda for its compiler, which needs no GPU."""
    pytest.importorskip("numba_cuda")
    from numba import cuda

    return cuda


def array(memory: Memory, values: np.ndarray, readonly: bool = False) -> list[int]:
    """Return what numba.cuda's kernels take for an array: no owner, its sizes, address, shape and stride."""
    return [0, 0, values.size, values.itemsize, memory.add(values, readonly=readonly), values.size, values.itemsize]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_axpy(cuda, capability):
    def axpy(x, y, n, a):
        i = cuda.grid(1)
        while i < n:
            y[i] += a * x[i]
            i += cuda.gridsize(1)

    kernel = Kernel(cuda.compile_ptx(axpy, "void(float32[::1], float32[::1], int64, float32)", cc=capability)[0])
    assert "axpy" in kernel.name
    for n in 1, 191, 192, 5001:
        x, y = np.random.default_rng(n).standard_normal((2, n + 9)).astype(np.float32)
        want = y.copy()
        want[:n] = np.float64(np.float32(0.3)) * x[:n] + y[:n]  # as by one fma: float64 has the bits for it
        memory = Memory()
        first, second = array(memory, x, readonly=True), array(memory, y)
        kernel(3, 64, [*first, *second, n, 0.3], memory)
        assert np.array_equal(y, want)
        assert memory.touched(first[4]) == (4 * n, 4 * n, 0, 0)
        assert memory.touched(second[4]) == (4 * n, 4 * n, 4 * n, 4 * n)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_philox(cuda, capability):
    u32, u64 = np.uint32, np.uint64

    def philox(words, first, n, seed):
        i = cuda.grid(1)
        while i < n:
            c0, c1, c2, c3 = u32(first + i), u32((first + i) >> 32), u32(0), u32(0)
            k0, k1 = u32(seed), u32(seed >> 32)
            for _ in range(7):
                a, b = u64(c0) * u64(0xD2511F53), u64(c2) * u64(0xCD9E8D57)
                c0, c1, c2, c3 = u32(b >> u64(32)) ^ c1 ^ k0, u32(b), u32(a >> u64(32)) ^ c3 ^ k1, u32(a)
                k0, k1 = u32(k0 + u32(0x9E3779B9)), u32(k1 + u32(0xBB67AE85))
            words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3
            i += cuda.gridsize(1)

    kernel = Kernel(cuda.compile_ptx(philox, "void(uint32[::1], int64, int64, int64)", cc=capability)[0])
    for first, n, seed in (0, 3000, -1), (2**32 - 50, 100, 0x123456789ABCDEF):
        memory, out = Memory(), np.zeros(4 * n, np.uint32)
        kernel(7, 96, [*array(memory, out), first, n, seed], memory)
        elements = np.arange(8 * first, 8 * (first + n), dtype=np.uint64)
        assert np.array_equal(out.view(np.uint16), mask_reference.draws(elements, seed % 2**64))


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_numba_loop_that_every_thread_leaves_at_its_own_time(cuda, capability):
    def divisors(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            x, y = a[i], b[i]
            while y:
                x, y = y, x % y
            out[i] = x

    kernel = Kernel(cuda.compile_ptx(divisors, "void(uint64[::1], uint64[::1], float64[::1])", cc=capability)[0])
    a, b = np.random.default_rng(0).integers(0, 2**63, (2, 999), np.uint64) >> np.arange(999, dtype=np.uint64) % 60
    memory, out = Memory(), np.zeros(999)
    kernel(4, 256, [each for values in (a, b, out) for each in array(memory, values)], memory)
    assert out.tolist() == [float(math.gcd(*pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
