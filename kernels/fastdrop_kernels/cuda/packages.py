"""The packages that compile and launch the GPU kernels, or a clear error where one is missing.

    cuda     numba.cuda, as the package numba-cuda brings it: compiles; not needed where cubins are in the cache
    core     cuda.core, NVIDIA's Python interface to the driver: links, loads, launches

Each is imported on first use: ``from fastdrop_kernels.cuda.packages import core``.
"""

import importlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, Final

import numpy as np

OLDEST_NUMBA_CUDA: Final = (0, 22)
OLDEST_DRIVER: Final = 12000
INSTALL: Final = 'pip install "fastdrop[cuda13]", or "fastdrop[cuda12]" for CUDA 12'


def _core() -> Any:
    try:
        module = importlib.import_module("cuda.core")
        # Up to version 0.4 all of it was in a module of its own.
        return module if hasattr(module, "launch") else importlib.import_module("cuda.core.experimental")
    except ImportError as error:  # cuda-core itself is missing, or the bindings that it needs
        raise ImportError(f"CUDA kernels need cuda-core and cuda-bindings, but: {error}; {INSTALL}") from error


def check_driver() -> None:
    """Raise where there is no CUDA driver, or one that is too old, which cuda.core does not say clearly."""
    error, version = importlib.import_module("cuda.bindings.driver").cuDriverGetVersion()
    if error:
        raise RuntimeError(f"CUDA kernels need a CUDA driver, but asked for its version it says {error.name}")
    if version < OLDEST_DRIVER:
        oldest, found = (f"{number // 1000}.{number % 1000 // 10}" for number in (OLDEST_DRIVER, version))
        raise RuntimeError(f"CUDA kernels need a driver for CUDA {oldest} or later, but this one is for {found}")


@contextmanager
def _older_numpy() -> Iterator[None]:
    """Restore the NumPy name that numba-cuda 0.30 needs at import, and that NumPy 2.5 has removed."""
    missing = not hasattr(np, "row_stack")
    if missing:
        np.row_stack = np.vstack
    try:
        yield
    finally:
        if missing:
            del np.row_stack


def _cuda() -> Any:
    try:
        version = metadata.version("numba-cuda")
    except metadata.PackageNotFoundError:
        raise ImportError(f"compiling CUDA kernels needs numba-cuda, which is not installed: {INSTALL}") from None
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_NUMBA_CUDA:
        oldest = ".".join(map(str, OLDEST_NUMBA_CUDA))
        raise ImportError(f"compiling CUDA kernels needs numba-cuda {oldest} or later, but got {version}: {INSTALL}")
    try:
        with warnings.catch_warnings(), _older_numpy():
            warnings.simplefilter("ignore")  # newer NumPys' deprecations in its code do not concern the user
            importlib.import_module("numba.cuda.np.arrayobj")  # else imported at the first compilation
            return importlib.import_module("numba.cuda")
    except Exception as error:  # each release supports some of Numba's, and fails obscurely with others
        numba = metadata.version("numba")
        raise ImportError(f"numba-cuda {version} does not work with numba {numba}: {error!r}; {INSTALL}") from error


def __getattr__(name: str) -> Any:
    find = {"core": _core, "cuda": _cuda}.get(name)
    if find is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = find()
    return found
