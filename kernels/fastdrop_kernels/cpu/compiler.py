"""How CPU kernels are compiled, and where the compiled code is kept between processes.

Numba would keep it beside the source, which may be read-only and which ``pip uninstall`` leaves behind. It is kept in a
folder of the user's instead, in a subfolder that names everything the code depends on: these sources, Numba, the CPU.
A stale or foreign kernel is then never found, and two processes that write at once write the same bytes.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import numba
from llvmlite import binding
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import register_jitable

from fastdrop_kernels.cache import digest, writable_subfolder
from fastdrop_kernels.cpu.intrinsics import WORDS
from fastdrop_kernels.locks import held_by_forks

Result = TypeVar("Result")

KERNEL: Final = types.void(WORDS, types.uint64, types.uint64)  # arguments, first block, last block (not included)
OPTIONS: Final = {"error_model": "numpy"}
inlined: Final = register_jitable(forceinline=True)  # LLVM alone would call the larger ones, with their counts unknown


@functools.cache
def cache_folder() -> pathlib.Path | None:
    """Return the folder of this version's compiled code, made and writable, or None where none can be had."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    cpu, features = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    return writable_subfolder(f"{python}-numba{numba.__version__}-{cpu}-{digest('cuda', features)}")


@contextmanager
def _cache_in(folder: pathlib.Path | None) -> Iterator[dict[str, bool]]:
    """Have functions that are decorated inside keep their code in `folder`; yields the option to give the decorator.

    Numba reads its documented setting CACHE_DIR when a function is decorated; it has no public way to set it for one.
    """
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder or "")
    try:
        yield {"cache": folder is not None}
    finally:
        numba.config.CACHE_DIR = before


_callbacks: Final[dict[str, Any]] = {}  # for good: an address outlives its callback
_compiling: Final = held_by_forks(global_compiler_lock)  # else two threads could each compile one


def compile_callback(signature: Any, function: Callable[..., None], name: str) -> Any:
    """Compile a function to a C callback, or load it from the cache; it has an `address`.

    `name` must differ between any two functions: Numba keeps one index file a name, and two processes that add
    different code to one index at once can each end up with the other's.
    """
    if numba.config.DISABLE_JIT:
        raise RuntimeError("fastdrop's kernels need Numba's compiler, but it is switched off: NUMBA_DISABLE_JIT is set")
    with _compiling, _cache_in(cache_folder()) as cached:
        if name not in _callbacks:
            function.__name__ = function.__qualname__ = name
            # A signal handler that interrupted this line may have compiled it too, and know the address.
            _callbacks.setdefault(name, numba.cfunc(signature, **OPTIONS, **cached)(function))
        return _callbacks[name]


def compiled_entry(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function to be called from Python: compiled, or loaded, at its first call; it runs without the GIL."""
    with _cache_in(cache_folder()) as cached:
        entry: Callable[..., Result] = numba.njit(nogil=True, **OPTIONS, **cached)(function)
    return entry
