"""Arithmetic that both devices share, on the CPU; what a GPU makes of it is in the tests of kernels that use it."""

from fractions import Fraction

import numba
import numpy as np
import pytest

from fastdrop_kernels.arithmetic import fma


@numba.njit
def fused(a, b, c):
    return fma(a, b, c)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fma_rounds_once(kind):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 500)).astype(kind)
    c = (-(a * b) * rng.choice([1, 1 + np.finfo(kind).eps, 0.5, 0.9], 500)).astype(kind)  # most digits cancel
    for each in zip(a, b, c, strict=True):
        x, y, z = (Fraction(float(value)) for value in each)
        exact, got = x * y + z, fused(*each)
        neighbours = (np.nextafter(got, kind(-np.inf)), np.nextafter(got, kind(np.inf)))
        error = abs(Fraction(float(got)) - exact)
        assert type(kind(got)) is kind
        assert all(error <= abs(Fraction(float(other)) - exact) for other in neighbours)


def test_fma_of_mixed_types_is_refused():
    with pytest.raises(TypeError, match="three float32 or three float64, but got float32, float32 and float64"):
        fused(np.float32(1), np.float32(1), np.float64(1))
