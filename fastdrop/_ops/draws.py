"""The mask stream as tensors: masks and normal numbers, made so that no trace, mode or transform sees it."""

from collections.abc import Sequence

import numpy as np
import torch

from fastdrop._devices import kernels
from fastdrop._keys.key import Seed
from fastdrop._ops import modes


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

    strides: of a dense tensor, whose memory's order elements are counted in; None: row by row.
    """
    if device is not None and not modes.in_trace() and kernels.has_mask_kernel(device):
        with modes.unseen():
            empty = torch.empty(shape, dtype=torch.bool, device=device)
            keep = empty if strides is None else empty.as_strided(tuple(shape), tuple(strides))
        kernels.fill_mask(keep, start, p, seed, offset)
        return keep
    return _tensor(kernels.mask_array(shape, start, p, int(seed), offset), strides, device)


def normals(
    shape: Sequence[int], seed: Seed, offset: int, strides: Sequence[int] | None, device: torch.device
) -> torch.Tensor:
    """Return a tensor of standard normal numbers, float32, on a device, in the order that `mask` has too."""
    return _tensor(kernels.normals_array(shape, int(seed), offset), strides, device)


def _tensor(array: np.ndarray, strides: Sequence[int] | None, device: torch.device | None) -> torch.Tensor:
    """Return a tensor of an array's memory, with strides of its own, on a device."""
    if strides is not None:
        strides = [stride * array.itemsize for stride in strides]
        array = np.lib.stride_tricks.as_strided(array, array.shape, strides)
    return torch.from_numpy(array).to(device or "cpu")
