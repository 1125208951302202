"""Alpha dropout of one element: dropped to SELU's lower limit, then affinely mapped to preserve mean and variance.

With alpha' = 1.758..., minus SELU's lower limit, and a = ((alpha'^2 p + 1) (1 - p))^(-1/2):

    y = a x + a alpha' p  where kept,  else  -a alpha' (1 - p)

Klambauer et al., "Self-normalizing neural networks" (NeurIPS 2017); the constant and the case of p = 1 are torch's.
"""

import math
from typing import Any, Final

from fastdrop_kernels.arithmetic import fma
from fastdrop_kernels.formulas.dropout import scaled, zero
from fastdrop_kernels.formulas.formula import Formula

ALPHA: Final = 1.7580993408473766


def affine(p: Any, compute: Any) -> Any:
    """Return a, a alpha' p and -a alpha' (1 - p); at p = 1, where a is infinite, zeros."""
    a = 1 / math.sqrt((ALPHA * ALPHA * p + 1) * (1 - p)) if p < 1 else 0.0
    return compute(a), compute(a * ALPHA * p), compute(a * ALPHA * (p - 1))


def scale_of_derivative(p: Any, compute: Any) -> Any:
    """Return a."""
    return affine(p, compute)[0], compute(0), compute(0)


def scaled_and_shifted(x: Any, factors: Any) -> Any:
    """Return x, scaled and shifted, rounded once."""
    return fma(x, factors[0], factors[1])


def fill(x: Any, factors: Any) -> Any:
    """Return the value of a dropped element."""
    return factors[2]


ALPHA_DROPOUT: Final = Formula("alpha_dropout", "alpha_dropout_derivative", affine, scaled_and_shifted, fill)
ALPHA_DROPOUT_DERIVATIVE: Final = Formula(
    "alpha_dropout_derivative", "alpha_dropout_derivative", scale_of_derivative, scaled, zero
)
