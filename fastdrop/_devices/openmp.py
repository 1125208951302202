"""The OpenMP runtime that torch itself runs on.

Its pool of threads is warm, follows torch.set_num_threads and is never run beside a second one. A process may hold
several: torch's own copy, one that is preloaded and takes its place, one of another package that does not. So a runtime
counts as torch's if torch sees what is set there.
"""

import ctypes
import functools
import os
from collections.abc import Iterator

import torch

from fastdrop_kernels.cpu.launch import OpenMP

SWITCH = "FASTDROP_OPENMP"  # set to 0, OpenMP is not used


def _libraries() -> Iterator[ctypes.CDLL]:
    """Yield what torch's calls may lead to: what the whole process sees, and what torch's extension module does."""
    yield ctypes.CDLL(None)
    yield ctypes.CDLL(torch._C.__file__, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)


def _is_torchs(library: ctypes.CDLL) -> bool:
    """Return whether torch runs on a runtime; the number of threads is each thread's own, so no other one notices."""
    threads = torch.get_num_threads()
    try:
        library.omp_set_num_threads(threads + 1)
        return torch.get_num_threads() == threads + 1
    finally:
        library.omp_set_num_threads(threads)


@functools.cache
def torch_openmp() -> OpenMP | None:
    """Return the addresses of torch's OpenMP runtime, or None where it has none that offers GOMP_parallel."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        for library in _libraries():
            if hasattr(library, "GOMP_parallel") and _is_torchs(library):
                functions = library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
                return OpenMP(*(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions))
    except (AttributeError, OSError, TypeError):  # Windows takes no None, nor has it RTLD_NOLOAD
        return None
    return None  # macOS's libomp may lack GOMP_parallel
