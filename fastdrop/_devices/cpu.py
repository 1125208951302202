"""The CPU backend: kernels by name, on as many threads as their work is worth."""

from typing import Final

from torch.autograd import profiler

from fastdrop._devices import profile, threads
from fastdrop._devices.threads import WORTH_SHARING
from fastdrop_kernels.cpu.launch import run_serial
from fastdrop_kernels.cpu.pages import HUGE_FROM, prefer_huge_pages
from fastdrop_kernels.cpu.registry import address
from fastdrop_kernels.launch import COUNT, Launch, X, Y

ITEMSIZE: Final = {"bool": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def run_kernel(name: str, dtype: str, launch: Launch) -> None:
    """Run a kernel."""
    event = profile.begin(name) if profiler._is_profiler_enabled else None
    kernel, count = address(name, dtype), launch[COUNT]
    if count < WORTH_SHARING:  # known before any question about threads, which would cost a small tensor a microsecond
        run_serial(kernel, launch)
    else:
        size = count * ITEMSIZE[dtype]
        if size >= HUGE_FROM and launch[X] != launch[Y]:
            prefer_huge_pages(launch[Y], size)
        threads.run_shared(kernel, launch)
    if event is not None:
        event.__exit__(None, None, None)
