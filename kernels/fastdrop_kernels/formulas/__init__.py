"""What each operation computes of one element; CPU and GPU kernels are made of the same functions."""

from typing import Final

from fastdrop_kernels.formulas.alpha import ALPHA_DROPOUT, ALPHA_DROPOUT_DERIVATIVE
from fastdrop_kernels.formulas.dropout import DROP, DROPOUT
from fastdrop_kernels.formulas.formula import IDENTITY, Formula, NormalFormula
from fastdrop_kernels.formulas.gaussian import GAUSSIAN_DROPOUT, GAUSSIAN_NOISE
from fastdrop_kernels.formulas.mask import MASK
from fastdrop_kernels.formulas.residual import DROPOUT_ADD

__all__ = ["FORMULAS", "IDENTITY", "Formula", "NormalFormula"]

FORMULAS: Final[dict[str, Formula | NormalFormula]] = {
    formula.name: formula
    for formula in (
        DROPOUT,
        DROP,
        ALPHA_DROPOUT,
        ALPHA_DROPOUT_DERIVATIVE,
        MASK,
        GAUSSIAN_DROPOUT,
        GAUSSIAN_NOISE,
        DROPOUT_ADD,
    )
}
