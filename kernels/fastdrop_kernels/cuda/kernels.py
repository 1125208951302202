"""The compiled kernels by name, dtype and architecture, each compiled when it is first asked for, and kept on disk.

A cubin is 10 KB that any driver of its architecture loads without a compiler. So compiled kernels can be carried: a
cache folder filled on one machine serves another that has a driver but no CUDA toolkit, or one that does not fit.
"""

import contextlib
import functools
import os
import pathlib
import struct
import threading
from typing import Final

from fastdrop_kernels.cache import digest, user_cache_folder
from fastdrop_kernels.formulas import FORMULAS, NormalFormula

NO_CACHE: Final = (OSError, RuntimeError)  # it cannot be read or written; there is no home folder for it
ELF_HEADER: Final = struct.Struct("<4s28xQQ6x4H2x")  # magic; places of the two tables; sizes of their entries, numbers
FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
KERNELS: Final = (  # name, dtype
    *(
        (loop + name, dtype)
        for name, formula in FORMULAS.items()
        if name != "mask"
        for loop in (("",) if isinstance(formula, NormalFormula) else ("", "runs_", "rows_"))
        for dtype in FLOATS
    ),
    ("mask", "bool"),
)

Capability = tuple[int, int]


def entry_name(name: str, dtype: str) -> str:
    """Return what a kernel is called in its cubin."""
    return f"fastdrop_{name}_{dtype}"


def arch_of(capability: Capability) -> str:
    """Return the architecture of a compute capability: (9, 0) is "sm_90"."""
    return f"sm_{capability[0]}{capability[1]}"


@functools.cache
def ptx(name: str, dtype: str, capability: Capability) -> str:
    """Return a kernel's PTX (dtype: "float32", ...; "bool" for a mask). It needs numba-cuda, but no GPU."""
    from fastdrop_kernels.cuda.compiler import compile_ptx  # here, as cubins run where numba-cuda is missing
    from fastdrop_kernels.cuda.grid import PARAMETERS
    from fastdrop_kernels.cuda.loops import kernel

    return compile_ptx(kernel(name, dtype, capability), PARAMETERS, capability, entry_name(name, dtype))


def cache_folder() -> pathlib.Path:
    """Return where the cubins of these sources are kept, whether it is there or not."""
    return user_cache_folder() / f"cuda-{digest(without='cpu')}"


def cubin_path(name: str, dtype: str, capability: Capability) -> pathlib.Path:
    """Return where a kernel's cubin is kept."""
    return cache_folder() / f"{name}-{dtype}-{arch_of(capability)}.cubin"


def cubin(name: str, dtype: str, capability: Capability) -> bytes:
    """Return a kernel's machine code: from the cache, else compiled, and then kept there if it can be."""
    with contextlib.suppress(*NO_CACHE):
        code = cubin_path(name, dtype, capability).read_bytes()
        if is_whole(code):
            return code
    from fastdrop_kernels.cuda.compiler import link

    code = link(ptx(name, dtype, capability), arch_of(capability))
    with contextlib.suppress(*NO_CACHE):
        _write(cubin_path(name, dtype, capability), code)
    return code


def is_whole(code: bytes) -> bool:
    """Return whether a file is a cubin with nothing cut off: an ELF file up to the end of both its tables."""
    if len(code) < ELF_HEADER.size:
        return False
    magic, programs, sections, *(program_size, program_count, section_size, section_count) = ELF_HEADER.unpack_from(
        code
    )
    end = max(programs + program_size * program_count, sections + section_size * section_count)
    return bool(magic == b"\x7fELF" and len(code) >= end)


def _write(path: pathlib.Path, code: bytes) -> None:
    """Write a file that is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files nobody else may read: one user may fill the cache of others.
    partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        partial.write_bytes(code)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
