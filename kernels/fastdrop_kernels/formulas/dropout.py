"""Dropout of one element: y = x / (1 - p) where kept, else +0."""

from typing import Any, Final

from fastdrop_kernels.formulas.formula import Formula


def scale(p: Any, compute: Any) -> Any:
    """Return 1/(1-p), both operations rounded in the compute type."""
    return compute(1) / compute(1 - p)


def kept(x: Any, scale: Any) -> Any:
    """Return x / (1 - p)."""
    return x * scale


def dropped(x: Any, scale: Any) -> Any:
    """Return +0, whatever x is: NaN and infinity too."""
    return type(x)(0)


DROPOUT: Final = Formula("dropout", scale, kept, dropped)
