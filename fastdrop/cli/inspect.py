"""`fastdrop inspect`: what a CUDA kernel is compiled to, for any GPU, without one."""

import argparse
from collections import Counter
from typing import Any, Final

from fastdrop.cli import gpu
from fastdrop_kernels.cuda.cubins import ptx
from fastdrop_kernels.cuda.disassembly import Access, accesses, called, histogram, local_accesses
from fastdrop_kernels.cuda.inspect import Report, inspect
from fastdrop_kernels.names import KERNELS

DTYPES: Final = {name: [dtype for n, dtype in KERNELS if n == name] for name, _ in KERNELS}
PREFERRED: Final = "float32"  # where a kernel has several dtypes


def add_to(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser("inspect", help="show the compiled code of a CUDA kernel")
    parser.description = "Show what a CUDA kernel is compiled to. No GPU is needed."
    parser.add_argument("name", choices=DTYPES, type=gpu.kernel_name)
    parser.add_argument("--dtype", help="; ".join(f"{name}: {', '.join(dtypes)}" for name, dtypes in DTYPES.items()))
    parser.add_argument("--arch", default="sm_90", help="the GPU's architecture (default: %(default)s)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--ptx", action="store_true", help="print the PTX instead of a summary")
    instead.add_argument("--sass", action="store_true", help="print the machine code instead of a summary")
    parser.set_defaults(run=lambda arguments: run(arguments, parser))


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a kernel's PTX, its machine code or a summary of both."""
    name, dtypes = arguments.name, DTYPES[arguments.name]
    dtype = arguments.dtype or (PREFERRED if PREFERRED in dtypes else dtypes[0])
    if dtype not in dtypes:
        parser.error(f"argument --dtype: expected one of {', '.join(dtypes)} for {name}, but got {dtype!r}")
    with gpu.needing("inspect", parser):
        capability, *more = gpu.capabilities(arguments.arch, parser)
        if more:
            parser.error(f"argument --arch: expected one architecture, but got {arguments.arch!r}")
        if arguments.ptx:
            print(ptx(name, dtype, capability))
            return 0
        report = inspect(name, dtype, capability)
    print(marked(report) if arguments.sass else summary(report))
    return 0


def marked(report: Report) -> str:
    """Return the machine code with comments around its main loop."""
    lines = report.code.text.splitlines()
    first, last = report.code.main[0].line, report.code.main[-1].line
    begin, end = f"// main loop, for {report.elements} elements:", "// end of the main loop"
    return "\n".join([*lines[:first], begin, *lines[first : last + 1], end, *lines[last + 1 :]])


def widths(counted: Counter[Access]) -> str:
    """Return the accesses to device memory, by number and width."""
    said = [
        f"{count} {access.direction}{'s' if count > 1 else ''} of {access.bits} bits"
        for access, count in sorted(counted.items())
    ]
    return ", ".join(said) or "none"


def summary(report: Report) -> str:
    """Return a summary of a kernel's code."""
    (entry, parameters), taken, code = report.signature, report.resources, report.code
    lines = {
        "kernel": f"{entry} for {report.arch}",
        "parameters": ", ".join(f"{name}: {kind}" for name, kind in parameters.items()),
        "registers": f"{taken.registers} a thread",
        "stack": f"{taken.stack} bytes; spilled: {taken.spill_stores} bytes stored, {taken.spill_loads} loaded",
        "local memory": f"{local_accesses(code.instructions)} accesses",
        "calls": ", ".join(called(code.instructions)) or "none",
        "code": f"{code.size} bytes, {len(code.instructions)} instructions",
        "main loop": f"{len(code.main)} instructions for {report.elements} elements, "
        f"{report.instructions_per_element:.1f} each",
        "  memory": widths(accesses(code.main)),
        "elsewhere": f"{widths(accesses(code.rest))}: the seed, what is not in whole tiles",
    }
    about = [f"{name:<14}{value}" for name, value in lines.items()]
    bars = [f"  {name:<12}{count:3} {'#' * count}" for name, count in histogram(code.main).most_common()]
    return "\n".join([*about, "", "Operations of the main loop", *bars])
