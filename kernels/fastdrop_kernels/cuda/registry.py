"""The kernels by name: a formula's, after the layout of its mask: "segments_dropout", "repeated_rows_dropout"."""

from collections.abc import Callable

from fastdrop_kernels.cuda import elementwise, gaussian, repeated_rows, segments
from fastdrop_kernels.cuda.dtypes import traits, traits_of_thread
from fastdrop_kernels.formulas import FORMULAS, NormalFormula, formula_name


def kernel(name: str, dtype: str, capability: tuple[int, int]) -> Callable[..., None]:
    """Return a kernel, to be compiled for a compute capability."""
    formula = FORMULAS[formula_name(name)]
    if isinstance(formula, NormalFormula):
        return gaussian.kernel(formula, traits(dtype, capability))
    for prefix, loop in (("segments_", segments.kernel), ("repeated_rows_", repeated_rows.kernel)):
        if name.startswith(prefix):
            return loop(formula, traits_of_thread(dtype, capability))
    return elementwise.kernel(formula, traits(dtype, capability))
