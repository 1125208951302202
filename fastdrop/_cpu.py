"""The CPU backend: a kernel by its name, run from one dense tensor's memory to another's."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from fastdrop import _threads
from fastdrop._threads import WORTH_SHARING
from fastdrop_kernels.cpu.kernels import address
from fastdrop_kernels.cpu.launch import run as launch
from fastdrop_kernels.cpu.pages import HUGE_FROM, prefer_huge_pages

FLOATS: Final = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}
STRIDED: Final = torch.strided
PLAIN: Final = frozenset({torch.Tensor, torch.nn.Parameter})


def has_kernel(x: torch.Tensor) -> bool:
    """Return whether x is a plain CPU tensor of a dtype that there are kernels for."""
    return x.dtype in FLOATS and x.is_cpu and type(x) in PLAIN and x.layout is STRIDED and not x.is_nested


@functools.cache
def _kernel(name: str, dtype: torch.dtype) -> int:
    return address(name, FLOATS[dtype])


def run(name: str, x: torch.Tensor, y: torch.Tensor, p: float, seed: int, offset: int) -> None:
    """Write a kernel's result for x, element by element in the order of memory, to y (which may be x).

    x, y: dense CPU tensors of one dtype, size and strides; seed, offset: 64 bits as signed integers.
    """
    count, source, target = x.numel(), x.data_ptr(), y.data_ptr()
    if y.numel() != count or y.dtype is not x.dtype:
        raise ValueError(f"kernel needs equal tensors, but got {count} of {x.dtype} and {y.numel()} of {y.dtype}")
    if not (source and target):
        if x._is_zerotensor():  # zeros without memory, which autograd's forward mode makes
            y.zero_()
        elif count:
            raise RuntimeError(f"kernel needs memory, but got a tensor of {count} elements whose storage is empty")
        return
    kernel = _kernel(name, x.dtype)
    if count < WORTH_SHARING:  # known before any question about threads, which would cost a small tensor a microsecond
        launch(kernel, source, target, 0, count, seed, offset, p)
        return
    itemsize = x.itemsize
    if count * itemsize >= HUGE_FROM and source != target:
        prefer_huge_pages(target, count * itemsize)
    _threads.run(kernel, source, target, 0, count, itemsize, seed, offset, p)


def mask(shape: Sequence[int], p: float, seed: int, offset: int, start: int = 0) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return True where an element is kept, row by row; a NumPy array, which no trace, mode or transform sees."""
    keep = np.empty(shape, np.bool_)
    target = keep.ctypes.data
    _threads.run(address("mask", "bool"), target, target, start, keep.size, 1, seed, offset, p)
    return keep
