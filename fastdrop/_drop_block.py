"""DropBlock below its arguments: the key, the mask, the scale."""

import torch
from torch._C import _are_functorch_transforms_active
from torch.compiler import is_dynamo_compiling

from fastdrop import _block_mask, _composite, _operators, _seeds, _stored
from fastdrop._exported import is_exported
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
    if seed is None and generator is None and is_exported():
        keep = _block_mask.by_torchs_draws(x.shape, p, block_size, x.device)
        y = _stored.compose(x, keep, _scale_of(keep.sum(), x, eps))
    elif is_dynamo_compiling() or _composite.is_graphed() or _are_functorch_transforms_active():
        key = _seeds.draw_tensor(generator, x) if seed is None else _operators.as_tensor(seed)
        keep = _block_mask.operator(x.shape, p, block_size, key, offset, x.device)
        y = _stored.compose(x, keep, _scale_of(keep.sum(), x, eps))
    else:
        keep, kept = _block_mask.make(x.shape, p, block_size, _seeds.of(x, seed, generator), offset, x.device)
        y = _stored.apply(x, keep, _scale_of(kept, x, eps))
    return x.copy_(y) if inplace else y


def _scale_of(kept: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return elements / (eps + kept elements), computed in float32, of float64 and its complex numbers in float64."""
    compute = torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
    return x.numel() / (eps + kept.to(compute))
