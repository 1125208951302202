"""What a kernel is compiled to: its entry and parameters, registers and machine code. No GPU needed."""

import re
from typing import NamedTuple

from fastdrop_kernels.cuda import disassembly, toolchain
from fastdrop_kernels.cuda.cubins import Capability, arch_of, ptx


class Signature(NamedTuple):
    """What is needed to launch a kernel."""

    entry: str
    parameters: dict[str, str]  # PTX types by name, in order


class Resources(NamedTuple):
    """What a thread takes, by the assembler's report."""

    registers: int
    stack: int  # bytes, as the others
    spill_stores: int
    spill_loads: int


class Report(NamedTuple):
    """Everything about one kernel for one architecture."""

    arch: str
    signature: Signature
    resources: Resources
    elements: int  # that an iteration of the main loop processes
    code: disassembly.Code

    @property
    def instructions_per_element(self) -> float:
        """Return how many instructions of the main loop an element takes."""
        return len(self.code.main) / self.elements


def signature(ptx: str) -> Signature:
    """Read the entry of a module that has one."""
    found = re.search(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)", ptx)
    if found is None:
        raise ValueError(f"expected PTX with an entry, but got:\n{ptx}")
    parameters = [parameter.split() for parameter in found[2].split(",")]  # .param .u64 x
    return Signature(found[1], {words[-1]: words[1].removeprefix(".") for words in parameters})


def resources(log: str, entry: str) -> Resources:
    """Read what ``ptxas -v`` says of an entry, or nvJitLink of what its ptxas says."""
    stack = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    found = re.search(rf"Function properties for {re.escape(entry)}\n.*?{stack}.*?Used (\d+) registers", log, re.DOTALL)
    if found is None:
        raise toolchain.ToolError(f"the assembler says nothing of {entry}, but: {log!r}")
    stack_bytes, stores, loads, registers = map(int, found.groups())
    return Resources(registers, stack_bytes, stores, loads)


def inspect(name: str, dtype: str, capability: Capability) -> Report:
    """Compile a kernel anew, whatever the cache holds, and read what comes out."""
    from fastdrop_kernels.cuda.dtypes import traits  # here, as it imports numba.cuda

    arch, text = arch_of(capability), ptx(name, dtype, capability)
    cubin, log = toolchain.assemble(text, arch)
    has = signature(text)
    code = disassembly.parse(toolchain.disassemble(cubin))
    return Report(arch, has, resources(log, has.entry), traits(dtype, capability).tile, code)
