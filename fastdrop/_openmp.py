"""The OpenMP runtime that torch itself runs on.

Its pool of threads is warm, follows torch.set_num_threads and is never run beside a second one. It is looked up as the
dynamic linker sees it from torch's extension module, so it is torch's own copy, whatever else is loaded or installed.
"""

import ctypes
import functools
import os

import torch

from fastdrop_kernels.cpu.launch import OpenMP

SWITCH = "FASTDROP_OPENMP"  # set to 0, OpenMP is not used


def library() -> ctypes.CDLL:
    """Return torch's extension module; its symbols include those of all that it was linked with."""
    return ctypes.CDLL(torch._C.__file__, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)


@functools.cache
def torch_openmp() -> OpenMP | None:
    """Return the addresses of torch's OpenMP runtime, or None where it has none that offers GOMP_parallel."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        linked = library()
        functions = linked.GOMP_parallel, linked.omp_get_thread_num, linked.omp_get_num_threads
    except (AttributeError, OSError):  # Windows has no RTLD_NOLOAD; macOS's libomp may lack GOMP_parallel
        return None
    return OpenMP(*(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions))
