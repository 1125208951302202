"""Dropout added to a residual: y = r + x / (1 - p) where kept, else r; rounded once."""

from typing import Any, Final

from fastdrop_kernels.arithmetic import fma
from fastdrop_kernels.formulas.dropout import inverted_scale
from fastdrop_kernels.formulas.formula import IDENTITY, Formula


def scaled_and_added(values: Any, factors: Any) -> Any:
    """Return the residual plus x, scaled."""
    x, residual = values
    return fma(x, factors[0], residual)


def residual_alone(values: Any, factors: Any) -> Any:
    """Return the residual, whatever x is: NaN and infinity too."""
    return values[1]


DROPOUT_ADD: Final = Formula(
    "dropout_add",
    "dropout",
    inverted_scale,
    scaled_and_added,
    residual_alone,
    inputs=2,
    second_derivative=IDENTITY,
)
