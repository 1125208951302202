"""Compiling ahead of the first use."""

from collections.abc import Iterable

import torch

from fastdrop import _backend, _cuda
from fastdrop._backend import FLOATS
from fastdrop.functional import dropout_mask


def warmup(
    dtypes: Iterable[torch.dtype] = (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    device: torch.device | str | None = None,
) -> None:
    """Compile the kernels of these dtypes, or load them from the cache, so that no first call has to.

    Before a CUDA graph is captured, this (or one call outside of it) is needed.

    Parameters
    ----------
    dtypes : iterable of torch.dtype
        Any of float16, bfloat16, float32, float64.
    device : device, optional
        The CPU (default) or a CUDA device; "cuda" is the current one.

    Raises
    ------
    ValueError
        If there is no kernel for a dtype, or for the device.
    RuntimeError
        If the kernels cannot be had on a CUDA device; the reason is in the text.

    Examples
    --------
    >>> fastdrop.warmup([torch.float32])
    """
    wanted = list(dtypes)
    for dtype in wanted:
        if dtype not in FLOATS:
            raise ValueError(f"warmup needs dtypes out of {', '.join(map(str, FLOATS))}, but got {dtype}")
    where = torch.device(device or "cpu")
    if where.type not in ("cpu", "cuda"):
        raise ValueError(f"warmup needs the CPU or a CUDA device, but got {where}")
    for dtype in wanted:
        x = torch.zeros(8, dtype=dtype, device=where)
        if not _backend.has_kernel(x):
            raise RuntimeError(f"fastdrop has no kernels on {x.device}: {_cuda.reason(FLOATS[dtype], x.get_device())}")
        _backend.run("dropout", x, x, 0.5, 0, 0)
    dropout_mask(8, 0.5, seed=0, device=where)
