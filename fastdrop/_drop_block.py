"""DropBlock below its arguments: the key, the mask, and its application by torch's operators.

Autograd keeps of these the mask, a byte an element, and the scale; never a tensor of the input's dtype.
"""

import torch
from torch._C import _are_functorch_transforms_active
from torch._prims_common import suggest_memory_format
from torch.compiler import is_dynamo_compiling
from torch.utils._python_dispatch import _disable_current_modes

from fastdrop import _block_mask, _native, _operators, _seeds
from fastdrop._key import Seed


def drop_block(
    x: torch.Tensor,
    p: float,
    block_size: int,
    inplace: bool,
    eps: float,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return x with blocks of this size, which fit in it, zeroed, and the rest scaled to its mean."""
    keep = _mask_for(x, p, block_size, seed, offset, generator)
    scale = _scale_of(keep, eps, x.dtype)
    keep = keep.contiguous(memory_format=suggest_memory_format(x))  # else the result would not be channels_last
    y = torch.where(keep, x * scale, 0)
    return x.copy_(y) if inplace else y


def _scale_of(keep: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """Return elements / (eps + kept elements), computed in float32, of float64 and its complex numbers in float64."""
    compute = torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
    return keep.numel() / (eps + keep.sum().to(compute))


def _mask_for(
    x: torch.Tensor, p: float, block_size: int, seed: Seed | None, offset: int, generator: torch.Generator | None
) -> torch.Tensor:
    """Return the mask of a given key, or of one that is drawn; an operator's where somebody is to see it."""
    if is_dynamo_compiling() or _native.is_graphed() or _are_functorch_transforms_active():
        key = _seeds.draw_tensor(generator, x) if seed is None else _operators.as_tensor(seed)
        return _block_mask.operator(x.shape, p, block_size, key, offset, x.device)  # type: ignore[no-any-return]
    with _disable_current_modes():  # a checkpoint's second run may be watched where its first was not
        drawn = _seeds.of(x, seed, generator)
    return _block_mask.make(x.shape, p, block_size, drawn, offset, x.device)
