"""Compiling ahead of the first use."""

import warnings
from collections.abc import Iterable

import torch

from fastdrop._devices import cuda, kernels
from fastdrop._devices.kernels import FLOATS
from fastdrop._keys.arguments import cut, shown
from fastdrop._ops import block_mask
from fastdrop._ops.variants import OPS, kernels_for
from fastdrop.functional import dropout_mask


def warmup(
    dtypes: Iterable[torch.dtype] = (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    device: torch.device | str | None = None,
    ops: Iterable[str] = ("dropout",),
    *,
    members: Iterable[str] | None = None,
) -> None:
    """Compile the kernels of these dtypes, or load them from the cache, so that no first call has to.

    They are those that the named ops take, forward and backward, and that of `dropout_mask`. Before a CUDA graph is
    captured, this (or one call outside of it) is needed.

    Parameters
    ----------
    dtypes : iterable of torch.dtype
        Any of float16, bfloat16, float32, float64.
    device : device, optional
        The CPU (default) or a CUDA device; "cuda" is the current one.
    ops : iterable of str
        Names of functions in `fastdrop.functional`, or "all" in place of an iterable. `dropout` with a noise_shape
        takes the kernels of `dropout2d`.
    members : iterable of str, optional
        The old name of `ops`, which the next version will no longer take.

    Raises
    ------
    ValueError
        If there is no kernel for a dtype, or for the device; if an op is unknown.
    RuntimeError
        If the kernels cannot be had on a CUDA device; the reason is in the text.

    Examples
    --------
    >>> fastdrop.warmup([torch.float32], ops=["dropout", "drop_path"])
    """
    if members is not None:
        warnings.warn("warmup takes ops in place of members, which will go", DeprecationWarning, stacklevel=2)
        ops = members
    wanted, named = list(dtypes), OPS if ops == "all" else frozenset(ops)
    for dtype in wanted:
        if dtype not in FLOATS:
            raise ValueError(f"warmup needs dtypes out of {', '.join(map(str, FLOATS))}, but got {cut(dtype)}")
    if not named <= OPS:
        known = ", ".join(sorted(OPS))
        raise ValueError(f'warmup needs ops="all" or an iterable of names out of {known}, but got {shown(ops)}')
    where = torch.device(device or "cpu")
    if where.type not in ("cpu", "cuda"):
        raise ValueError(f"warmup needs the CPU or a CUDA device, but got {where}")
    used = kernels_for(named)
    for dtype in wanted:
        x = torch.zeros(8, dtype=dtype, device=where)
        if not kernels.has_kernel(x):
            raise RuntimeError(f"fastdrop has no kernels on {x.device}: {cuda.reason(FLOATS[dtype], x.get_device())}")
        for name in used - {"mask", "dilate_blocks"}:  # of no dtype of these
            kernels.warm(name, x)
    dropout_mask(8, 0.5, seed=0, device=where)
    if "dilate_blocks" in used:
        block_mask.make((1, 1, 2, 2), 0.5, 1, 0, 0, where)
