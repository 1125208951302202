"""Numba's compiled functions in fastdrop's own cache.

Numba's cache is for all of a process: where it lies is one global setting, which other threads' functions would follow.
It unpickles whatever it finds, fails where that is damaged, and keeps an index of a function's signatures, which two
processes that write at once can mix up. So a function's attribute `_cache` is set to one of these, which keeps a file a
signature. That is Numba's private interface, so all of it is used and imported where `tolerated` sees it fail: with a
Numba that has changed it, code is compiled anew in every process.
"""

import functools
import hashlib
import pickle
import sys
from typing import Any, Final

import numba

from fastdrop_kernels import cache

SUFFIX: Final = ".code"
SETTINGS: Final = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # what changes code


@functools.cache
def subfolder() -> str:
    """Return the name of the subfolder for this version's code: it says everything that the code depends on."""
    from numba.core.registry import cpu_target

    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()  # of what is compiled for
    settings = repr([getattr(numba.config, name, None) for name in SETTINGS])
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-numba{numba.__version__}-{cpu}-{cache.digest('cuda', triple, features, settings)}"


class CodeCache:
    """What Numba asks for a function's compiled code, and gives it to; `name` is the function's alone."""

    cache_path = None  # only told, in a function's statistics

    def __init__(self, name: str) -> None:
        self.name = name

    def file(self, signature: Any) -> str:
        """Return the name of the file for a signature."""
        return f"{self.name}-{hashlib.sha256(str(signature).encode()).hexdigest()[:8]}{SUFFIX}"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the code for a signature, made runnable, or None where it has to be compiled."""
        with cache.tolerated():
            from numba.core.compiler import CompileResult

            code = cache.read(subfolder(), self.file(signature))
            if code is not None:
                target_context.refresh()
                return CompileResult._rebuild(target_context, *pickle.loads(code))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep the code for a signature."""
        with cache.tolerated():
            from numba.core.serialize import dumps

            if not compiled.library.has_dynamic_globals:  # addresses of this process
                cache.write(subfolder(), self.file(signature), dumps(compiled._reduce()))
