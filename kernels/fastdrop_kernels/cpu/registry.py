"""The compiled kernels by name and dtype, each compiled (or loaded from the cache) when it is first asked for."""

import functools
from typing import Any, Final

from fastdrop_kernels.cpu import elementwise, gaussian, masked_scale, repeated_rows, segments
from fastdrop_kernels.cpu.compiler import inlined
from fastdrop_kernels.cpu.dtypes import BYTE, TRAITS
from fastdrop_kernels.formulas import FORMULAS, NormalFormula
from fastdrop_kernels.names import ELEMENTS, REPEATED_ROWS, SEGMENTS, split

for formula in FORMULAS.values():
    for function in filter(callable, formula):
        inlined(function)

LOOPS: Final = {ELEMENTS: elementwise.kernel, SEGMENTS: segments.kernel, REPEATED_ROWS: repeated_rows.kernel}
MASKED_SCALE: Final = {"masked_scale": masked_scale.kernel, "masked_scale_rows": masked_scale.rows_kernel}


def compiled(name: str, dtype: str) -> Any:
    """Return the C callback of a kernel for a dtype ("float32", ...; "bool" for a mask).

    name: see `names`; or, for a mask that lies in memory, of elements or of rows, one of `MASKED_SCALE`.
    """
    traits = BYTE if dtype == "bool" else TRAITS[dtype]
    if name in MASKED_SCALE:
        return MASKED_SCALE[name](dtype, traits)
    layout, formula = split(name)
    if isinstance(formula, NormalFormula):
        return gaussian.kernel(formula, dtype, traits)
    return LOOPS[layout](formula, dtype, traits)


@functools.cache
def address(name: str, dtype: str) -> int:
    """Return the kernel's address, for the functions of `launch`."""
    return int(compiled(name, dtype).address)
