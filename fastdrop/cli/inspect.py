"""`fastdrop inspect`: the code of a CUDA kernel, for any architecture, with no GPU."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from fastdrop.cli import architectures
from fastdrop_kernels.cuda.kernels import KERNELS, ptx

if TYPE_CHECKING:  # needs numba-cuda, which the other commands do without
    from fastdrop_kernels.cuda.inspect import Report

NAMES: Final = list(dict.fromkeys(name for name, _ in KERNELS))
INDENT: Final = " " * 17
HELP: Final = "show what a CUDA kernel is compiled to; no GPU needed"


def add_to(commands: Any) -> None:
    """Add the command to the command line's."""
    parser: argparse.ArgumentParser = commands.add_parser("inspect", help=HELP)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--dtype", help="default: float32, or bool for a mask")
    parser.add_argument("--arch", default="sm_90", help="the GPU's architecture (default: %(default)s)")
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--ptx", action="store_true", help="print the PTX instead of a summary")
    printed.add_argument("--sass", action="store_true", help="print the machine code instead of a summary")
    parser.set_defaults(run=lambda arguments: run(arguments, parser))


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print one kernel's code or a summary of it."""
    name, dtype = arguments.name, _dtype(arguments.name, arguments.dtype, parser)
    try:
        from fastdrop_kernels.cuda.inspect import inspect
        from fastdrop_kernels.cuda.toolchain import ToolError
    except ImportError as error:
        return _missing(error)
    try:
        capability, *more = architectures.parse(arguments.arch)
        if more:
            raise argparse.ArgumentTypeError(f"expected one architecture, but got {arguments.arch!r}")
        print(ptx(name, dtype, capability) if arguments.ptx else _text(inspect(name, dtype, capability), arguments.sass))
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --arch: {error}")
    except (ImportError, ToolError) as error:
        return _missing(error)
    return 0
