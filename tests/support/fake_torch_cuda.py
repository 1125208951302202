"""CUDA as torch would see it, had it the stand-in's devices, with CPU tensors in CUDA tensors' place."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from cuda import core

from fastdrop._devices import cpu, cuda
from fastdrop._ops import block_mask, draws, masked_scale
from fastdrop_kernels.cpu.registry import MASKED_SCALE
from fastdrop_kernels.cuda import launch
from fastdrop_kernels.launch import Launch

STREAM = 0x7F00_0000_1000  # of device 0; the next device's is the next number


class TorchCuda:
    """What torch would say of CUDA, and what it was told."""

    device = 0
    stream = STREAM
    capturing = False

    @contextlib.contextmanager
    def switched(self, device: int) -> Iterator[None]:
        """Be on another device inside; as in the runtime since CUDA 12, the driver's context goes along."""
        before, self.device = self.device, device
        core.Device(device).set_current()
        try:
            yield
        finally:
            self.device = before
            core.Device(before).set_current()


@contextlib.contextmanager
def fresh_launcher() -> Iterator[None]:
    """Have the launcher know of no kernel and no context: the stand-in has forgotten them too."""
    launch._load.cache_clear()
    with mock.patch.object(launch, "_thread", launch._Thread()):
        yield
    launch._load.cache_clear()


@contextlib.contextmanager
def torch_cuda() -> Iterator[TorchCuda]:
    """Have torch see the stand-in's devices, and fastdrop nothing of what it loaded before."""
    state = TorchCuda()
    with contextlib.ExitStack() as replaced:
        for owner, name, value in (
            (torch.cuda, "current_device", lambda: state.device),
            (torch.cuda, "device", state.switched),
            (torch.cuda, "is_current_stream_capturing", lambda: state.capturing),
            (torch._C, "_cuda_getCurrentRawStream", lambda device: state.stream + device),
            (cuda, "_loaded", {}),
            (cuda, "_reasons", {}),
        ):
            replaced.enter_context(mock.patch.object(owner, name, value, create=owner is torch._C))
        replaced.enter_context(fresh_launcher())
        yield state


def as_on_gpu(arguments: Any) -> Launch:
    """Return a launch whose seed, where it is a tensor, is given by its address, as a GPU's is."""
    *places, start, count, seed, _, offset, parameter, repeat, inner = arguments
    value, address = (seed, 0) if isinstance(seed, int) else (0, seed.data_ptr())
    x, y, second, third = places
    return x, y, second, third, start, count, value, address, offset, parameter, repeat, inner


@contextlib.contextmanager
def cpu_as_gpu(state: TorchCuda) -> Iterator[None]:
    """Run on the GPU what fastdrop would run on the CPU, and by torch what has a kernel on the CPU only."""
    run_on_cpu, make_blocks, tensor_of = cpu.run_kernel, block_mask.make, draws._tensor

    def run(name: str, dtype: str, arguments: Launch) -> None:
        if name in MASKED_SCALE:
            run_on_cpu(name, dtype, arguments)
        else:
            cuda.run_kernel(name, dtype, state.device, as_on_gpu(arguments))

    def make(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return make_blocks(*args[:-1], torch.device("cuda", state.device))

    def tensor(array: np.ndarray, strides: Any, _: Any) -> torch.Tensor:
        return tensor_of(array, strides, None)

    with contextlib.ExitStack() as replaced:
        for owner, name, value in (
            (cpu, "run_kernel", run),
            (block_mask, "make", make),
            (draws, "_tensor", tensor),
            (masked_scale, "takes", lambda x: False),
        ):
            replaced.enter_context(mock.patch.object(owner, name, value))
        yield
