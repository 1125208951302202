"""The compiled kernels by name and dtype, each compiled (or loaded from the cache) when it is first asked for."""

import functools
from typing import Any

from fastdrop_kernels.cpu.blocks import kernel
from fastdrop_kernels.cpu.compiler import inlined
from fastdrop_kernels.cpu.elements import BYTE, ELEMENTS
from fastdrop_kernels.formulas import FORMULAS

for formula in FORMULAS.values():
    for function in (formula.factors, formula.kept, formula.dropped):
        inlined(function)


def compiled(name: str, dtype: str) -> Any:
    """Return the C callback of an operation for a dtype ("float32", ...; "bool" for a mask)."""
    element = BYTE if dtype == "bool" else ELEMENTS[dtype]
    return kernel(FORMULAS[name], dtype, element, element)


@functools.cache
def address(name: str, dtype: str) -> int:
    """Return the kernel's address, for `launch.run` and `launch.run_parallel`."""
    return int(compiled(name, dtype).address)
