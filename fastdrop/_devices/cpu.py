"""The CPU backend: kernels by name, on as many threads as their work is worth."""

from typing import Final

from torch.autograd import profiler

from fastdrop._devices import profile, threads
from fastdrop._devices.threads import WORTH_SHARING
from fastdrop._keys.broadcast import NO_BROADCAST, BroadcastLayout
from fastdrop_kernels.cpu.launch import run_serial as launch
from fastdrop_kernels.cpu.pages import HUGE_FROM, prefer_huge_pages
from fastdrop_kernels.cpu.registry import address, masked_scale_address

ITEMSIZE: Final = {"bool": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def run_kernel(
    name: str, dtype: str, x: int, y: int, start: int, count: int,
    p: float, seed: int, offset: int, broadcast: BroadcastLayout = NO_BROADCAST,
) -> None:  # fmt: skip
    """Run a kernel on `count` elements; x, y: addresses; start: the first element's index in the stream."""
    event = profile.begin(name) if profiler._is_profiler_enabled else None
    kernel = address(name, dtype)
    repeat, inner = broadcast
    if count < WORTH_SHARING:  # known before any question about threads, which would cost a small tensor a microsecond
        launch(kernel, x, y, start, count, seed, offset, p, repeat, inner)
    else:
        itemsize = ITEMSIZE[dtype]
        if count * itemsize >= HUGE_FROM and x != y:
            prefer_huge_pages(y, count * itemsize)
        threads.run_shared(kernel, x, y, start, count, itemsize, seed, offset, p, repeat, inner)
    if event is not None:
        event.__exit__(None, None, None)


def run_masked_scale(dtype: str, x: int, y: int, keep: int, count: int, scale: float, row: int = 0) -> None:
    """Write x * scale to y where a byte of the mask at `keep` is 1, else +0; a byte an element, or a row."""
    event = profile.begin("stored_rows" if row else "stored") if profiler._is_profiler_enabled else None
    kernel = masked_scale_address(dtype, row != 0)
    if count < WORTH_SHARING:
        launch(kernel, x, y, 0, count, keep, 0, scale, 0, row)
    else:
        threads.run_shared(kernel, x, y, 0, count, ITEMSIZE[dtype], keep, 0, scale, 0, row)
    if event is not None:
        event.__exit__(None, None, None)
