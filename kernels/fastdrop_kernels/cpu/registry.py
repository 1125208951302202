"""The compiled kernels by name and dtype, each compiled (or loaded from the cache) when it is first asked for."""

import functools
from typing import Any, Final

from fastdrop_kernels.cpu import elementwise, gaussian, masked_scale, repeated_rows, segments
from fastdrop_kernels.cpu.compiler import inlined
from fastdrop_kernels.cpu.dtypes import BYTE, TRAITS
from fastdrop_kernels.formulas import FORMULAS, NormalFormula, formula_name

for formula in FORMULAS.values():
    for function in formula[2:]:
        inlined(function)


LOOPS: Final = {
    "": elementwise.kernel,
    "segments_": segments.kernel,
    "repeated_rows_": repeated_rows.kernel,
}  # how a mask lies over elements


def compiled(name: str, dtype: str) -> Any:
    """Return the C callback of a kernel for a dtype ("float32", ...; "bool" for a mask).

    Its name is that of a formula, after one of `LOOPS`: "dropout", "segments_dropout", "repeated_rows_dropout".
    """
    formula, traits = FORMULAS[formula_name(name)], BYTE if dtype == "bool" else TRAITS[dtype]
    if isinstance(formula, NormalFormula):
        return gaussian.kernel(formula, dtype, traits)
    return LOOPS[name.removesuffix(formula.name)](formula, dtype, traits)


@functools.cache
def masked_scale_address(dtype: str, of_rows: bool) -> int:
    """Return the address of the kernel that applies a mask from memory, of elements or of rows."""
    kernel = masked_scale.rows_kernel if of_rows else masked_scale.kernel
    return int(kernel(dtype, TRAITS[dtype]).address)


@functools.cache
def address(name: str, dtype: str) -> int:
    """Return the kernel's address, for `launch.run` and `launch.run_parallel`."""
    return int(compiled(name, dtype).address)
