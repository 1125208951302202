"""`fastdrop compile`: CUDA kernels compiled ahead of time, for machines with a GPU and without a compiler."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any, Final

from fastdrop._ops.variants import OPS, kernels_for
from fastdrop.cli import gpu
from fastdrop_kernels import cache
from fastdrop_kernels.cuda import cubins
from fastdrop_kernels.names import KERNELS

NAMES: Final = list(dict.fromkeys(name for name, _ in KERNELS))
DTYPES: Final = list(dict.fromkeys(dtype for _, dtype in KERNELS))
CARRY: Final = """
A machine with this version of fastdrop and no compiler runs them too: copy the folder
{folder}
to it, and set FASTDROP_CACHE_DIR there to the folder that the copy is in.
The copy has to belong to the user who runs them, and nobody else may write to it."""


def add_to(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser("compile", help="compile CUDA kernels ahead of time")
    parser.description = "Compile CUDA kernels ahead of time, into the cache folder. No GPU is needed."
    parser.add_argument("--arch", required=True, help="the GPUs' architectures, as in sm_80,sm_90")
    ops = f"ops, whose kernels they are: {', '.join(sorted(OPS))}"
    names = f"all, or some of {', '.join(NAMES)}; or {ops} (default: %(default)s)"
    parser.add_argument("--kernel", default="all", help=names)
    parser.add_argument("--dtype", default="all", help=f"all, or some of {', '.join(DTYPES)} (default: %(default)s)")
    parser.set_defaults(run=lambda arguments: run(arguments, parser))


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Compile what is not in the cache yet, and print where everything is."""
    kernels = ",".join(map(gpu.kernel_name, arguments.kernel.split(",")))
    named = frozenset(some_of("--kernel", kernels, list(dict.fromkeys([*NAMES, *sorted(OPS)])), parser))
    names, dtypes = named | kernels_for(named), some_of("--dtype", arguments.dtype, DTYPES, parser)
    with gpu.needing("cuda13", parser):
        for capability in gpu.capabilities(arguments.arch, parser):
            for name, dtype in KERNELS:
                if name in names and dtype in dtypes:
                    print(compiled(name, dtype, capability, parser), flush=True)
    print(CARRY.format(folder=cache.user_cache_folder()))
    return 0


def some_of(option: str, given: str, known: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return what an option names, separated by commas, out of what there is."""
    chosen = known if given == "all" else given.split(",")
    if not set(chosen) <= set(known):
        parser.error(
            f"argument {option}: expected all, or some of {', '.join(known)}, separated by commas, but got {given!r}"
        )
    return chosen


def compiled(name: str, dtype: str, capability: cubins.Capability, parser: argparse.ArgumentParser) -> str:
    """Compile a kernel into the cache, unless it is there, and return a line about it."""
    subfolder, file = cubins.subfolder(), cubins.cubin_name(name, dtype, capability)
    with needing_cache(parser):
        path = cache.made(subfolder) / file
    cubins.cubin(name, dtype, capability)
    with needing_cache(parser):  # a launch does without, and compiles anew in every process
        if cache.read(subfolder, file) is None:
            raise OSError(f"{path} could not be written")
    return f"{path}: {path.stat().st_size} bytes"


@contextlib.contextmanager
def needing_cache(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Exit with 2 and one line where the cache cannot be used."""
    try:
        yield
    except OSError as fault:
        parser.exit(2, f"{parser.prog} needs a cache folder that can be written, but {fault}\n")
