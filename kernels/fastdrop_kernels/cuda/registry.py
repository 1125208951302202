"""The kernels by name (see `names`), to be compiled."""

from collections.abc import Callable
from typing import Final

from fastdrop_kernels.cuda import elementwise, gaussian, repeated_rows, segments
from fastdrop_kernels.cuda.dtypes import traits, traits_of_thread
from fastdrop_kernels.formulas import NormalFormula
from fastdrop_kernels.names import REPEATED_ROWS, SEGMENTS, split

BROADCAST_LOOPS: Final = {SEGMENTS: segments.kernel, REPEATED_ROWS: repeated_rows.kernel}


def kernel(name: str, dtype: str, capability: tuple[int, int]) -> Callable[..., None]:
    """Return a kernel, to be compiled for a compute capability."""
    layout, formula = split(name)
    if isinstance(formula, NormalFormula):
        return gaussian.kernel(formula, traits(dtype, capability))
    if layout in BROADCAST_LOOPS:
        return BROADCAST_LOOPS[layout](formula, traits_of_thread(dtype, capability))
    return elementwise.kernel(formula, traits(dtype, capability))
