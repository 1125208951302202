"""GPU kernels without a GPU: their PTX, interpreted; for the stand-in driver's launches too, on the host's memory."""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Final
from unittest import mock

import numpy as np
from ptx import Kernel, Memory
from standin import GPUS, Launch

from fastdrop_kernels import cache
from fastdrop_kernels.cuda import cubins, inspect
from fastdrop_kernels.names import KERNELS

PLAIN = [(name, dtype) for name, dtype in KERNELS if name in ("dropout", "mask")]
STORAGE = {  # dtype of a kernel: NumPy's for the same bytes, with bfloat16 as its bits
    "bool": np.uint8,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "float32": np.float32,
    "float64": np.float64,
}


FOLDER: Final = str(cache.user_cache_folder().parent)  # as long as no test has changed the environment
compile_ptx: Final = cubins.ptx


@functools.cache
def kept_ptx(name: str, dtype: str, capability: cubins.Capability) -> str:
    """Return a kernel's PTX, kept on disk under a name of all that made it: it takes seconds to compile."""
    subfolder = f"ptx-{cache.digest('cpu', metadata.version('numba-cuda'), metadata.version('numba'))}"
    file = cubins.cubin_name(name, dtype, capability).replace("cubin", "ptx")
    with mock.patch.dict(os.environ, FASTDROP_CACHE_DIR=FOLDER), cache.tolerated():
        kept = cache.read(subfolder, file)
        if kept is None:
            kept = compile_ptx(name, dtype, capability).encode()
            cache.write(subfolder, file, kept)
        return kept.decode()
    return compile_ptx(name, dtype, capability)


@contextmanager
def ptx_on_disk() -> Iterator[None]:
    """Have the PTX of each kernel compiled once, for all processes and runs of the tests."""
    with mock.patch.object(cubins, "ptx", kept_ptx), mock.patch.object(inspect, "ptx", kept_ptx):
        yield


@functools.cache
def interpreted(name: str, dtype: str, capability: tuple[int, int]) -> Kernel:
    """Return a kernel, compiled for an architecture, that the interpreter runs."""
    return Kernel(cubins.ptx(name, dtype, capability))


def host_bytes(address: int, size: int) -> np.ndarray:
    """Return this process's memory as an array."""
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


def execute(launch: Launch) -> None:
    """Do what a GPU would do at a launch: run the kernel of that name on the addresses that it was given."""
    name, dtype = launch.function.removeprefix("fastdrop_").rsplit("_", 1)
    kernel = interpreted(name, dtype, GPUS[launch.device].capability)
    args = launch.read([each.type for each in kernel.params])
    given = dict(zip((each.name for each in kernel.params), args, strict=True))
    memory, size = Memory(), given["count"] * np.dtype(STORAGE[dtype]).itemsize
    for address in {given["x"], given["y"], given["second"] or given["x"]}:
        if size:
            memory.add(host_bytes(address, size), address)
    if given["seed_address"]:
        memory.add(host_bytes(given["seed_address"], 8), given["seed_address"], readonly=True)
    kernel(launch.grid, launch.block, args, memory)
