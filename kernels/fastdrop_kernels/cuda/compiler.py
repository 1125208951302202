"""How GPU kernels are compiled: Python to PTX by numba.cuda, PTX to a cubin by nvJitLink. Neither needs a GPU."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from numba import types

from fastdrop_kernels.cuda.packages import core, cuda


def inlined(function: Callable[..., Any]) -> Any:
    """Decorate a device function that is inlined into its callers."""
    return cuda.jit(device=True, inline="always")(function)


def compile_ptx(
    function: Callable[..., None], parameters: Mapping[str, Any], capability: tuple[int, int], name: str
) -> str:
    """Compile a kernel for a compute capability, with the entry point `name` and the given names of parameters.

    parameters: their Numba types by name, in the order in which `function` takes them.
    """
    ptx, _ = cuda.compile_ptx(function, types.void(*parameters.values()), cc=capability)
    found = re.search(r"\.entry\s+([\w$]+)", ptx)
    if found is None:
        raise RuntimeError(f"numba.cuda made no kernel of {name}, but this:\n{ptx}")
    for i, parameter in reversed(list(enumerate(parameters))):  # from the last on: _param_1 begins _param_10
        ptx = ptx.replace(f"{found[1]}_param_{i}", parameter)
    return str(ptx.replace(found[1], name))


def link(ptx: str, arch: str) -> bytes:
    """Return the machine code of PTX for an architecture ("sm_90"), as a cubin."""
    code = core.ObjectCode.from_ptx(ptx.encode())
    return bytes(core.Linker(code, options=core.LinkerOptions(arch=arch)).link("cubin").code)
