"""The backends, CPU and CUDA, behind one face: kernels by name, from one dense tensor's memory to another's.

A launch is made here, of tensors' addresses, and handed on as it is.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from fastdrop._devices import cpu, cuda
from fastdrop._keys.broadcast import NO_BROADCAST, BroadcastLayout
from fastdrop._keys.key import Seed
from fastdrop_kernels.cpu.registry import MASKED_SCALE
from fastdrop_kernels.names import REPEATED_ROWS, SEGMENTS

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


def why_no_kernel(x: torch.Tensor) -> str:
    """Return what `has_kernel` does not find in x: the first of its conditions that fails."""
    if x.dtype not in FLOATS:
        return f"dtype {str(x.dtype).removeprefix('torch.')}"
    if type(x) not in PLAIN:
        return f"tensor subclass {type(x).__name__}"
    if x.layout is not STRIDED or x.is_nested:
        return "nested tensor" if x.is_nested else f"{str(x.layout).removeprefix('torch.')} tensor"
    return f"device {x.device.type}"


def has_address(x: torch.Tensor) -> bool:
    """Return whether x has memory, or needs none."""
    address = x.data_ptr()  # without memory: its place in a storage that begins at 0
    return address >= LOW or address != x.storage_offset() * x.itemsize or x.numel() == 0


def launch(
    name: str,
    x: torch.Tensor,
    y: torch.Tensor,
    parameter: float,
    seed: Seed,
    offset: int,
    broadcast: BroadcastLayout = NO_BROADCAST,
    second: int = 0,
) -> bool:
    """Write a formula's result for x to y, x itself or an empty_like; do nothing and return False if x has no memory.

    x: dense, taken element by element in the order of memory; parameter: p, or what the formula has in place of it;
    offset: 64 bits as a signed integer; broadcast: how a mask that is broadcast lies over x; second: the address of a
    second tensor like x, for formulas of two.
    """
    count, source, target, dtype, device = x.numel(), x.data_ptr(), y.data_ptr(), FLOATS[x.dtype], x.get_device()
    if count == 0:
        return True
    if source < LOW and not has_address(x):
        return False
    repeat, inner = broadcast
    if repeat:
        name = f"{SEGMENTS if inner == 1 else REPEATED_ROWS}{name}"
    if device < 0:  # the CPU
        cpu.run_kernel(name, dtype, (source, target, second, 0, 0, count, seed, 0, offset, parameter, repeat, inner))  # type: ignore[arg-type]  # an int
    else:
        arguments = source, target, second, 0, 0, count, *_seed_slots(seed), offset, parameter, repeat, inner
        cuda.run_kernel(name, dtype, device, arguments)
    return True


def _seed_slots(seed: Seed) -> tuple[int, int]:
    """Return a launch's SEED and SEED_ADDRESS: a number, or where the kernel finds it."""
    return (seed, 0) if isinstance(seed, int) else (0, seed.data_ptr())


def launch_into(name: str, x: torch.Tensor, y: torch.Tensor, parameter: float, seed: Seed, offset: int) -> None:
    """Do the same for a y that comes from elsewhere, after a look at whether it is like x."""
    if x.numel() != y.numel() or x.dtype is not y.dtype or x.device != y.device:
        one, other = (f"{each.numel()} of {each.dtype} on {each.device}" for each in (x, y))
        raise ValueError(f"kernel needs equal tensors, but got {one} and {other}")
    if not has_address(y) or not launch(name, x, y, parameter, seed, offset):
        raise ValueError("kernel needs memory for its input and its result, but got a tensor without")


def masked_scale(x: torch.Tensor, keep: torch.Tensor, y: torch.Tensor, scale: float, row: int = 0) -> None:
    """Write x * scale to y where a byte of the mask is 1, else +0: a byte an element, or one a row of this length.

    All are dense, in the same order, and on the CPU.
    """
    of_rows = "masked_scale_rows" if row else "masked_scale"
    arguments = x.data_ptr(), y.data_ptr(), keep.data_ptr(), 0, 0, x.numel(), 0, 0, 0, scale, 0, row
    cpu.run_kernel(of_rows, FLOATS[x.dtype], arguments)


def warm(name: str, x: torch.Tensor) -> None:
    """Compile or load a kernel by its own name, and run it over x; a mask from memory only the CPU's kernels take."""
    source = x.data_ptr()
    arguments = source, source, source, 0, 0, x.numel(), 0, 0, 0, 0.5, 1, 1
    if not x.is_cuda:
        cpu.run_kernel(name, FLOATS[x.dtype], arguments)
    elif name not in MASKED_SCALE:
        cuda.run_kernel(name, FLOATS[x.dtype], x.get_device(), arguments)


def has_mask_kernel(device: torch.device) -> bool:
    """Return whether masks can be made on a GPU."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return cuda.is_ready("bool", torch.cuda.current_device() if device.index is None else device.index)


def fill_mask(keep: torch.Tensor, start: int, p: float, seed: Seed, offset: int) -> None:
    """Write a mask to a bool tensor on a GPU, from this element of the stream on, in the order of memory."""
    target = keep.data_ptr()
    arguments = target, target, 0, 0, start, keep.numel(), *_seed_slots(seed), offset, p, 0, 0
    cuda.run_kernel("mask", "bool", keep.get_device(), arguments)


def mask_array(shape: Sequence[int], start: int, p: float, seed: int, offset: int) -> np.ndarray:
    """Return a mask, row by row from this element of the stream on."""
    keep = np.empty(shape, np.bool_)
    target = keep.ctypes.data
    cpu.run_kernel("mask", "bool", (target, target, 0, 0, start, keep.size, seed, 0, offset, p, 0, 0))
    return keep


def normals_array(shape: Sequence[int], seed: int, offset: int) -> np.ndarray:
    """Return standard normal numbers, row by row."""
    z = np.zeros(shape, np.float32)
    target = z.ctypes.data
    cpu.run_kernel("gaussian_noise", "float32", (target, target, 0, 0, 0, z.size, seed, 0, offset, 1.0, 0, 0))
    return z
