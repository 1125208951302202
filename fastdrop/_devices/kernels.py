"""The backends, CPU and CUDA, behind one face: kernels by name, from one dense tensor's memory to another's."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch._C import _get_tracing_state
from torch.utils._python_dispatch import _disable_current_modes

from fastdrop._devices import cpu, cuda
from fastdrop._keys.broadcast import NO_BROADCAST, BroadcastLayout
from fastdrop._keys.key import Seed

FLOATS: Final = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}
STRIDED: Final = torch.strided
PLAIN: Final = frozenset({torch.Tensor, torch.nn.Parameter})
LOW: Final = 1 << 40  # on most systems memory has no address below, and a view's place in no memory is none above


def has_kernel(x: torch.Tensor) -> bool:
    """Return whether x is a plain tensor of a dtype and on a device that there are kernels for."""
    return (
        x.dtype in FLOATS
        and type(x) in PLAIN
        and x.layout is STRIDED
        and (x.is_cpu or (x.is_cuda and cuda.is_ready(FLOATS[x.dtype], x.get_device())))
        and not x.is_nested
    )


def has_memory(x: torch.Tensor) -> bool:
    """Return whether x has memory, or needs none; raise if it had some that was taken away.

    It has none if it is one of the zeros that autograd's forward mode makes, or stands for what is to be functional.
    """
    address = x.data_ptr()  # without memory: its place in a storage that begins at 0
    if address >= LOW or address != x.storage_offset() * x.itemsize or x.numel() == 0:
        return True
    if x._is_zerotensor() or torch._is_functional_tensor(x):
        return False
    raise RuntimeError(f"kernel needs memory, but got a tensor of {x.numel()} elements whose storage is empty")


def launch(
    name: str,
    x: torch.Tensor,
    y: torch.Tensor,
    p: float,
    seed: Seed,
    offset: int,
    broadcast: BroadcastLayout = NO_BROADCAST,
) -> None:
    """Write a formula's result for x, element by element in the order of memory, to y: x itself, or an empty_like.

    x: dense; offset: 64 bits as a signed integer; broadcast: how a mask that is broadcast lies over x.
    """
    count, source, target, dtype, device = x.numel(), x.data_ptr(), y.data_ptr(), FLOATS[x.dtype], x.get_device()
    if count == 0:
        return
    if source < LOW and not has_memory(x):
        if x._is_zerotensor():
            launch(name, y.zero_(), y, p, seed, offset, broadcast)
        else:
            torch._sync(x)  # type: ignore[attr-defined, no-untyped-call]
            copy = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
            copy.copy_(torch._from_functional_tensor(x))  # whose strides may be others
            launch(name, copy, copy, p, seed, offset, broadcast)
            y.copy_(copy)
        return
    if broadcast is not NO_BROADCAST:
        name = f"segments_{name}" if broadcast.inner == 1 else f"repeated_rows_{name}"
    if device < 0:  # the CPU
        cpu.run_kernel(name, dtype, source, target, 0, count, p, seed, offset, broadcast)  # type: ignore[arg-type]  # an int
    else:
        cuda.run_kernel(name, dtype, device, source, target, 0, count, p, seed, offset, broadcast)


def launch_into(name: str, x: torch.Tensor, y: torch.Tensor, p: float, seed: Seed, offset: int) -> None:
    """Do the same for a y that comes from elsewhere, after a look at whether it is like x."""
    if x.numel() != y.numel() or x.dtype is not y.dtype or x.device != y.device:
        one, other = (f"{each.numel()} of {each.dtype} on {each.device}" for each in (x, y))
        raise ValueError(f"kernel needs equal tensors, but got {one} and {other}")
    if not has_memory(y):
        raise ValueError("kernel needs memory for its result, but got a tensor without")
    launch(name, x, y, p, seed, offset)


def mask(
    shape: Sequence[int],
    p: float,
    seed: Seed,
    offset: int,
    start: int = 0,
    strides: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return a bool tensor, True where an element is kept, on a device (default: the CPU).

    strides: of a dense tensor, whose memory's order elements are counted in; None: row by row. No trace, mode or
    transform sees how it is made.
    """
    if device is not None and device.type == "cuda" and _get_tracing_state() is None and torch.cuda.is_available():
        index = torch.cuda.current_device() if device.index is None else device.index
        if cuda.is_ready("bool", index):
            with _disable_current_modes():
                empty = torch.empty(shape, dtype=torch.bool, device=device)
                keep = empty if strides is None else empty.as_strided(tuple(shape), tuple(strides))
            cuda.run_kernel(
                "mask", "bool", index, keep.data_ptr(), keep.data_ptr(), start, keep.numel(), p, seed, offset
            )
            return keep
    kept = np.empty(shape, np.bool_)
    target = kept.ctypes.data
    cpu.run_kernel("mask", "bool", target, target, start, kept.size, p, int(seed), offset)
    return _tensor(kept, strides, device)


def normals(
    shape: Sequence[int], seed: Seed, offset: int, strides: Sequence[int] | None, device: torch.device
) -> torch.Tensor:
    """Return a tensor of standard normal numbers, float32, on a device, in the order that `mask` has too."""
    z = np.zeros(shape, np.float32)
    target = z.ctypes.data
    cpu.run_kernel("gaussian_noise", "float32", target, target, 0, z.size, 1.0, int(seed), offset)
    return _tensor(z, strides, device)


def _tensor(array: np.ndarray, strides: Sequence[int] | None, device: torch.device | None) -> torch.Tensor:
    """Return a tensor of an array's memory, with strides of its own, on a device."""
    if strides is not None:
        strides = [stride * array.itemsize for stride in strides]
        array = np.lib.stride_tricks.as_strided(array, array.shape, strides)
    return torch.from_numpy(array).to(device or "cpu")
