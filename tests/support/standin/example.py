"""A kernel that does nothing, compiled by numba.cuda, loaded and launched by cuda.core."""

import ctypes
import functools
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cuda import core
from cuda.bindings import driver as bindings
from numba import cuda

SM90 = (9, 0)
STREAM = 0x7F00_0000_1000
TYPES = ("s64", "s64", "f64")  # of the kernel's parameters


def nothing(address: int, n: int, p: float) -> None:
    """Be a kernel; what it computes is nobody's business here."""


@functools.cache
def compiled(capability: tuple[int, int]) -> tuple[bytes, str]:
    """Return the cubin of `nothing` for an architecture, and its name there."""
    ptx, _ = cuda.compile_ptx(nothing, "void(int64, int64, float64)", cc=capability)
    options = core.LinkerOptions(arch="sm_{}{}".format(*capability))
    cubin = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin")
    return bytes(cubin.code), re.search(r"\.entry\s+([\w$]+)", ptx)[1]


def kernel(capability: tuple[int, int] = SM90) -> Any:
    """Load `nothing` and return it."""
    cubin, name = compiled(capability)
    return core.ObjectCode.from_cubin(cubin).get_kernel(name)


def raw_kernel() -> tuple[Any, Any]:
    """Load `nothing` by cuda.bindings; return the library and the function."""
    cubin, name = compiled(SM90)
    _, library = bindings.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
    _, loaded = bindings.cuLibraryGetKernel(library, name.encode())
    return library, bindings.cuKernelGetFunction(loaded)[1]


def launch(loaded: Any, *args: Any, grid: Any = 1, block: Any = 32, stream: Any = STREAM) -> None:
    """Launch a kernel on a stream, given as an object or as torch gives it."""
    stream = core.Stream.from_handle(stream) if isinstance(stream, int) else stream
    core.launch(stream, core.LaunchConfig(grid=grid, block=block), loaded, *(args or (1, 2, 0.5)))


def raw_launch(function: Any, *size: int) -> int:
    """Launch a kernel with 1, 2 and 0.5 by the driver's older call and return the error."""
    arguments = (1, 2, 0.5), (ctypes.c_int64, ctypes.c_int64, ctypes.c_double)
    return bindings.cuLaunchKernel(function, *(size or (1,) * 6), 0, STREAM, arguments, 0)[0]


def in_thread(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or raise what it raises, in a thread that has seen no device yet."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def device_now() -> int | None:
    """Return the device of the calling thread's context."""
    error, device = bindings.cuCtxGetDevice()
    assert error in (bindings.CUresult.CUDA_SUCCESS, bindings.CUresult.CUDA_ERROR_INVALID_CONTEXT)
    return None if error else int(device)
