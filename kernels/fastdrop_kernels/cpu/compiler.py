"""How CPU kernels are compiled: once for all processes, where the cache can keep them (see code_cache.py)."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import register_jitable

from fastdrop_kernels import cache
from fastdrop_kernels.cpu.code_cache import CodeCache
from fastdrop_kernels.cpu.intrinsics import WORDS
from fastdrop_kernels.locks import held_by_forks

Result = TypeVar("Result")

KERNEL: Final = types.void(WORDS, types.uint64, types.uint64)  # arguments, first block, last block (not included)
OPTIONS: Final = {"error_model": "numpy"}
inlined: Final = register_jitable(forceinline=True)  # LLVM would not inline the larger ones, and lose constant counts

_callbacks: Final[dict[str, Any]] = {}  # kept forever: addresses are used for as long as the process runs
_compiling: Final = held_by_forks(global_compiler_lock)  # else two threads could each compile one


def compile_callback(signature: Any, function: Callable[..., None], name: str) -> Any:
    """Compile a function to a C callback, or load it from the cache; it has an `address`.

    `name` must be unique: it identifies the function in the cache.
    """
    if numba.config.DISABLE_JIT:
        raise RuntimeError("fastdrop's kernels need Numba's compiler, but it is switched off: NUMBA_DISABLE_JIT is set")
    with _compiling:
        if name not in _callbacks:
            function.__name__ = function.__qualname__ = name
            callback = _cached_callback(signature, function, name) or numba.cfunc(signature, **OPTIONS)(function)
            # A signal handler that interrupted the line above may have compiled it too, and know the address.
            _callbacks.setdefault(name, callback)
        return _callbacks[name]


def _cached_callback(signature: Any, function: Callable[..., None], name: str) -> Any:
    """Do what `numba.cfunc` does, which compiles before a cache can be set; None if Numba's internals have changed."""
    callback: Any = None
    with cache.tolerated():
        from numba.core.ccallback import CFunc

        callback = CFunc(function, (signature.args, signature.return_type), {}, OPTIONS)
        callback._cache = CodeCache(name)
    if callback is not None:
        callback.compile()
    return callback


def entry_point(entry: Callable[..., Result], *types: Any) -> Callable[..., Result]:
    """Return a compiled entry for arguments of these types, which no call looks at again: that would cost 0.25 us."""
    dispatcher: Any = entry
    return dispatcher.compile(types)  # type: ignore[no-any-return]


def compiled_entry(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function to be called from Python: compiled, or loaded, at its first call; it runs without the GIL."""
    entry: Any = numba.njit(nogil=True, **OPTIONS)(function)
    entry._cache = CodeCache(function.__name__)
    return entry  # type: ignore[no-any-return]
