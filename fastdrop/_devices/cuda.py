"""The CUDA backend: kernels by name, on the stream that torch works on. What it needs is imported at the first use."""

import functools
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch.autograd import profiler

from fastdrop._devices import profile
from fastdrop_kernels.launch import Launch

Enqueue = Callable[[int, Launch], None]  # fastdrop_kernels.cuda.launch.enqueue with its kernel

NOTHING: Final[Launch] = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0)

_loaded: Final[dict[tuple[str, str, int], Enqueue]] = {}  # kernels by name, dtype and device
_reasons: Final[dict[tuple[str, int], str | None]] = {}  # why a dtype has no kernels on a device; None: it has


def is_ready(dtype: str, device: int) -> bool:
    """Return whether there are kernels for a dtype on a device; where there are none, it says once why."""
    try:
        return _reasons[dtype, device] is None
    except KeyError:
        _refuse_while_capturing(dtype, device)
        why = _why_not(dtype, device)
        is_first = not any(_reasons.values())
        _reasons[dtype, device] = why  # before the warning, which may be raised
        if why is not None and is_first:
            warnings.warn(f"fastdrop leaves CUDA tensors to native torch: {why}", RuntimeWarning, stacklevel=4)
        return why is None


def reason(dtype: str, device: int) -> str | None:
    """Return why there are no kernels for a dtype on a device; None where there are, or nobody has asked yet."""
    return _reasons.get((dtype, device))


def _why_not(dtype: str, device: int) -> str | None:
    if torch.version.hip is not None:
        return "its kernels are for NVIDIA GPUs"
    try:
        load("mask" if dtype == "bool" else "dropout", dtype, device)
    except Exception as error:  # a package missing, a driver too old, a GPU unknown: in any case native torch works
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _refuse_while_capturing(dtype: str, device: int) -> None:
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"fastdrop's kernels for {dtype} are not loaded on cuda:{device} yet, and cannot be while a CUDA graph is "
            "captured: call fastdrop.warmup(device='cuda', ops='all') first, or run once what is to be captured"
        )


def load(name: str, dtype: str, device: int) -> Enqueue:
    """Load a kernel on a device, compiled or from the cache, and return what launches it there."""
    _refuse_while_capturing(dtype, device)
    from fastdrop_kernels.cuda import launch  # needs cuda.core, which is not everybody's

    with torch.cuda.device(device):
        enqueue = functools.partial(launch.enqueue, launch.load(name, dtype, device))
        # The driver puts off a part of loading until the first launch, which may be one that is captured.
        enqueue(torch._C._cuda_getCurrentRawStream(device), NOTHING)
    _loaded[name, dtype, device] = enqueue
    return enqueue


def run_kernel(name: str, dtype: str, device: int, launch: Launch) -> None:
    """Launch a kernel on a device."""
    event = profile.begin(name) if profiler._is_profiler_enabled else None
    enqueue = _loaded.get((name, dtype, device)) or load(name, dtype, device)
    if device == torch.cuda.current_device():
        enqueue(torch._C._cuda_getCurrentRawStream(device), launch)
    else:
        with torch.cuda.device(device):
            enqueue(torch._C._cuda_getCurrentRawStream(device), launch)
    if event is not None:
        event.__exit__(None, None, None)
