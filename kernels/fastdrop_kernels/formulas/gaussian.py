"""Gaussian noise on one element: y = x (1 + std z), or y = x + std z.

In float64 z is what it is in float32, and arithmetic is float64's.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.arithmetic import fma
from fastdrop_kernels.formulas.formula import IDENTITY, NormalFormula


def relative_std(p: Any, compute: Any) -> Any:
    """Return sqrt(p / (1-p)), the standard deviation of dropout's noise too, rounded to the compute type at the end."""
    return compute(np.sqrt(np.float64(p) / np.float64(1 - p))), compute(0), compute(0)


def absolute_std(std: Any, compute: Any) -> Any:
    """Return the standard deviation itself."""
    return compute(std), compute(0), compute(0)


def multiplied(x: Any, z: Any, factors: Any) -> Any:
    """Return x + x (std z), rounded twice: the product in brackets, and the result."""
    return fma(x, factors[0] * type(x)(z), x)


def added(x: Any, z: Any, factors: Any) -> Any:
    """Return x + std z, rounded once."""
    return fma(factors[0], type(x)(z), x)


GAUSSIAN_DROPOUT: Final = NormalFormula("gaussian_dropout", "gaussian_dropout", relative_std, multiplied)
GAUSSIAN_NOISE: Final = NormalFormula("gaussian_noise", IDENTITY, absolute_std, added)
