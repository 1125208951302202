"""Run a kernel on a GPU, on a stream that somebody else has made; with little work, for small tensors wait for it.

numba.cuda's own launch costs 17 to 35 us of host time. cuda.core's costs half a microsecond, if all parameters are
Python integers and floats and what describes a launch is made once.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cuda.cubins import cubin, entry_name
from fastdrop_kernels.cuda.intrinsics import VECTOR_BYTES
from fastdrop_kernels.cuda.packages import check_driver, core
from fastdrop_kernels.launch import Launch
from fastdrop_kernels.locks import held_by_forks
from fastdrop_kernels.names import split

THREADS: Final = 256  # of a block
TILES_PER_THREAD: Final = 4  # in large launches: what a thread computes once it then uses four times
RESIDENT: Final = 2048  # threads that a multiprocessor holds at most

core_launch: Final = core.launch  # looked up once


class Kernel(NamedTuple):
    """A kernel that is loaded on a device."""

    device: int
    handle: Any
    tile: int  # elements that a thread works on at a time
    multiprocessors: int
    numbers: Callable[[float], tuple[int, float, float, float]]  # parameter -> (p32, scale, shift, fill), remembered


def _numbers(name: str, dtype: str) -> Callable[[float], tuple[int, float, float, float]]:
    compute, (_, formula) = np.float64 if dtype == "float64" else np.float32, split(name)

    @functools.lru_cache(maxsize=256)
    def numbers(parameter: float) -> tuple[int, float, float, float]:
        scale, shift, fill = map(float, formula.factors(parameter, compute))
        return round(min(parameter, 1.0) * 2.0**32), scale, shift, fill

    return numbers


_loading: Final = held_by_forks(threading.RLock())  # else threads that ask at once would each compile


def load(name: str, dtype: str, device: int) -> Kernel:
    """Compile a kernel, or take it from the cache, and load it on a device (a number), which has to be current."""
    with _loading:
        return _load(name, dtype, device)


@functools.cache
def _load(name: str, dtype: str, device: int) -> Kernel:
    check_driver()
    make_current(device)
    gpu = core.Device(device)
    code = core.ObjectCode.from_cubin(cubin(name, dtype, tuple(gpu.compute_capability)))
    itemsize = 1 if dtype == "bool" else np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize
    return Kernel(
        device,
        code.get_kernel(entry_name(name, dtype)),
        max(stream.DRAWS_PER_COUNTER, VECTOR_BYTES // itemsize),
        gpu.properties.multiprocessor_count,
        _numbers(name, dtype),
    )


class _Thread(threading.local):
    def __init__(self) -> None:
        self.devices: set[int] = set()  # that have been made current in this thread


_thread: Final = _Thread()


def make_current(device: int) -> None:
    """Give this thread a context of the device: a new one, autograd's for one, may have none."""
    core.Device(device).set_current()
    _thread.devices.add(device)


@functools.lru_cache(maxsize=256)
def _stream(handle: int, device: int) -> Any:
    return core.Stream.from_handle(handle)  # borrowed: it is not destroyed with the object


def blocks(count: int, tile: int, multiprocessors: int) -> int:
    """Return how many blocks `count` elements are worth: all that a GPU holds, then several tiles a thread."""
    one_each = -(-count // (tile * THREADS))
    full = multiprocessors * (RESIDENT // THREADS)
    return max(1, min(one_each, max(full, -(-one_each // TILES_PER_THREAD))))


@functools.lru_cache(maxsize=4096)
def _config(count: int, tile: int, multiprocessors: int) -> Any:
    return core.LaunchConfig(grid=blocks(count, tile, multiprocessors), block=THREADS)


def enqueue(kernel: Kernel, stream_handle: int, launch: Launch) -> None:
    """Put a kernel's run on a stream, which comes to it later.

    kernel: of `load`, for the device that is current, as whoever switches devices sees to; stream_handle: the driver's.
    """
    device, handle, tile, multiprocessors, numbers = kernel
    x, y, second, third, start, count, seed, seed_address, offset, parameter, repeat, inner = launch
    if device not in _thread.devices:
        make_current(device)
    core_launch(
        _stream(stream_handle, device), _config(count, tile, multiprocessors), handle,
        x, y, second, third, start, count, seed, seed_address, offset, *numbers(parameter), repeat, inner,
    )  # fmt: skip
