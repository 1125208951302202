"""float16 on CPUs without instructions for it, bit for bit as torch has it."""

import platform

import numba
import numpy as np
import pytest
import torch
from numba.extending import register_jitable
from processes import run_python

from fastdrop_kernels.cpu import code_cache, half

narrow, widen = register_jitable(half.narrow_by_arithmetic), register_jitable(half.widen_by_arithmetic)


@numba.njit(error_model="numpy")
def widen_all(x, y):
    for i in range(np.uint64(x.size)):
        y[i] = widen(x[i])


@numba.njit(error_model="numpy")
def narrow_all(x, y):
    for i in range(np.uint64(x.size)):
        y[i] = narrow(x[i])


def narrowed(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return halves of float32's bits, by arithmetic and by torch."""
    values, ours = bits.view(np.float32), np.empty(bits.size, np.uint16)
    narrow_all(values, ours)
    return ours, torch.from_numpy(values).half().numpy().view(np.uint16)


HALVES = np.arange(1 << 16, dtype=np.uint16)


def test_every_half_is_widened_as_torch_does():
    wide = np.empty(1 << 16, np.float32)
    widen_all(HALVES, wide)
    expected = torch.from_numpy(HALVES.view(np.float16)).float().numpy()
    assert np.array_equal(wide.view(np.uint32), expected.view(np.uint32)), "NaN's payload and the sign of 0 too"


def test_every_half_every_tie_and_both_neighbours_are_narrowed_as_torch_does():
    """A tie lies between each half and the next: also the subnormal ones, and the largest and infinity."""
    finite = HALVES[:0x7C00].view(np.float16).astype(np.float64)
    above = np.append(finite[1:], 65536.0)
    exact = np.concatenate([finite, (finite + above) / 2]).astype(np.float32).view(np.uint32)
    near = np.concatenate([exact, exact + 1, exact[exact > 0] - 1])
    ours, expected = narrowed(np.concatenate([near, near | np.uint32(1 << 31)]))
    assert np.array_equal(ours, expected)


def test_every_exponent_is_narrowed_as_torch_does():
    """Zero, subnormal, normal, too large, infinite, NaN with all kinds of payload."""
    powers = np.uint32(1) << np.arange(23, dtype=np.uint32)
    for exponent in range(256):
        fraction = np.random.default_rng(exponent).integers(0, 1 << 23, 20_000, dtype=np.uint32)
        fraction = np.concatenate([fraction, powers, powers - 1, np.uint32((1 << 23) - 1) - powers])
        positive = np.uint32(exponent << 23) | fraction
        ours, expected = narrowed(np.concatenate([positive, positive | np.uint32(1 << 31)]))
        assert np.array_equal(ours, expected), exponent


CODE = """
import hashlib, torch, torch.nn.functional as F, fastdrop
x = torch.cat([torch.randn(40_000, generator=torch.Generator().manual_seed(0)), torch.tensor([65504.0, 6e-8, -0.0])])
x = x.half().requires_grad_()
results = []
for name in %s:
    y = getattr(fastdrop.functional, name)(x, 0.3, seed=5)
    y.sum().backward()
    results += [y.detach(), x.grad.clone()]
results.append(fastdrop.functional.dropout2d(x.detach()[:40_000].view(10, 40, 10, 10), 0.3, seed=5).flatten())
fastdrop.install()
torch.manual_seed(3)
results.append(F.dropout(x.detach(), 0.4))
print(hashlib.sha256(torch.cat(results).view(torch.int16).numpy().tobytes()).hexdigest())
from fastdrop_kernels.cpu import half
from fastdrop_kernels.cpu.code_cache import subfolder
print(half.is_native())
print(subfolder())
"""
GENERIC = {"NUMBA_CPU_NAME": "generic"}
OLD = {"NUMBA_CPU_NAME": "sandybridge", "NUMBA_CPU_FEATURES": ""}


@pytest.mark.skipif(not half.is_native(), reason="there is nothing to compare with")
@pytest.mark.parametrize(
    "names", [("dropout",), pytest.param(("dropout", "alpha_dropout", "gaussian_dropout"), marks=pytest.mark.slow)]
)
def test_kernels_give_the_same_bits_with_and_without_instructions(names):
    here = run_python(CODE % (names,)).splitlines()
    generic = run_python(CODE % (names,), **GENERIC).splitlines()
    assert (here[1], generic[1]) == ("True", "False")
    assert generic[0] == here[0]
    assert here[2] == code_cache.subfolder() != generic[2], "what is compiled for another CPU is not found by this one"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 CPUs")
def test_the_compiler_is_asked_not_the_host():
    code = "from fastdrop_kernels.cpu import half; print(half.is_native())"
    assert run_python(code, **OLD) == "False"
    assert run_python(code, NUMBA_CPU_NAME="skylake", NUMBA_CPU_FEATURES="") == "True"
    assert run_python(code, NUMBA_CPU_NAME="skylake", NUMBA_CPU_FEATURES="-f16c,-avx512f") == "False"
