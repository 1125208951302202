"""Compiling ahead of the first use."""

from collections.abc import Iterable

import torch

from fastdrop import _cpu
from fastdrop.functional import dropout_mask


def warmup(dtypes: Iterable[torch.dtype] = (torch.float32, torch.bfloat16, torch.float16, torch.float64)) -> None:
    """Compile the kernels of these dtypes, or load them from the cache, so that no first call has to.

    Parameters
    ----------
    dtypes : iterable of torch.dtype
        Any of float16, bfloat16, float32, float64.

    Raises
    ------
    ValueError
        If there is no kernel for a dtype.

    Examples
    --------
    >>> fastdrop.warmup([torch.float32])
    """
    wanted = list(dtypes)
    for dtype in wanted:
        if dtype not in _cpu.FLOATS:
            raise ValueError(f"warmup needs dtypes out of {', '.join(map(str, _cpu.FLOATS))}, but got {dtype}")
    for dtype in wanted:
        x = torch.zeros(8, dtype=dtype, device="cpu")
        _cpu.run("dropout", x, x, 0.5, 0, 0)
    dropout_mask(8, 0.5, seed=0)
