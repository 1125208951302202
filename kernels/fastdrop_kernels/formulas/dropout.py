"""Dropout of one element: y = x / (1 - p) where kept, else +0; and the same without the scale."""

from typing import Any, Final

from fastdrop_kernels.formulas.formula import Formula


def inverted_scale(p: Any, compute: Any) -> Any:
    """Return 1/(1-p), both operations rounded in the compute type; at p = 1, where nothing is kept, 0."""
    return compute(1) / compute(1 - p) if p < 1 else compute(0), compute(0), compute(0)


def no_scale(p: Any, compute: Any) -> Any:
    """Return a scale of 1."""
    return compute(1), compute(0), compute(0)


def scaled(x: Any, factors: Any) -> Any:
    """Return x, scaled."""
    return x * factors[0]


def zero(x: Any, factors: Any) -> Any:
    """Return +0, whatever x is: NaN and infinity too."""
    return type(x)(0)


DROPOUT: Final = Formula("dropout", "dropout", inverted_scale, scaled, zero)
DROP: Final = Formula("drop", "drop", no_scale, scaled, zero)
