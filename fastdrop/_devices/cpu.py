"""The CPU backend: kernels by name, on as many threads as their work is worth."""

import functools
from collections.abc import Callable
from typing import Final

from torch.autograd import profiler

from fastdrop._devices import profile, threads
from fastdrop._devices.threads import WORTH_SHARING
from fastdrop_kernels.cpu.launch import serial
from fastdrop_kernels.cpu.pages import HUGE_FROM, prefer_huge_pages
from fastdrop_kernels.cpu.registry import address
from fastdrop_kernels.launch import COUNT, Launch, X, Y

ITEMSIZE: Final = {"bool": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@functools.cache
def _serial(name: str, dtype: str) -> Callable[[Launch], None]:
    return serial(address(name, dtype))


def run_kernel(name: str, dtype: str, launch: Launch) -> None:
    """Run a kernel."""
    event = profile.begin(name) if profiler._is_profiler_enabled else None
    count = launch[COUNT]
    if count < WORTH_SHARING:  # known before any question about threads, which would cost a small tensor a microsecond
        _serial(name, dtype)(launch)
    else:
        size = count * ITEMSIZE[dtype]
        if size >= HUGE_FROM and launch[X] != launch[Y]:
            prefer_huge_pages(launch[Y], size)
        threads.run_shared(address(name, dtype), launch)
    if event is not None:
        event.__exit__(None, None, None)
