"""What each operation computes of one element; CPU and GPU kernels are made of the same functions."""

from typing import Final

from fastdrop_kernels.formulas.dropout import DROPOUT
from fastdrop_kernels.formulas.formula import Formula
from fastdrop_kernels.formulas.mask import MASK

__all__ = ["FORMULAS", "Formula"]

FORMULAS: Final[dict[str, Formula]] = {formula.name: formula for formula in (DROPOUT, MASK)}
