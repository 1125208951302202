"""The mask by itself: y = 1 where kept, else 0, as the bytes of a bool tensor. x is not read."""

from typing import Any, Final

import numpy as np

from fastdrop_kernels.formulas.formula import Formula


def nothing(p: Any, compute: Any) -> Any:
    """Return no factor: a mask needs none."""
    return compute(0), compute(0), compute(0)


def kept(x: Any, factors: Any) -> Any:
    """Return true."""
    return np.uint8(1)


def dropped(x: Any, factors: Any) -> Any:
    """Return false."""
    return np.uint8(0)


MASK: Final = Formula("mask", "", nothing, kept, dropped)
