"""DropBlock below its arguments: the key, the mask, the scale."""

import torch
from torch._C import _are_functorch_transforms_active

from fastdrop._keys import seeds
from fastdrop._keys.key import Seed
from fastdrop._ops import block_mask, library, masked_scale, modes
from fastdrop._ops.modes import is_exported


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
        keep = block_mask.by_torchs_draws(x.shape, p, block_size, x.device)
        y = masked_scale.decomposed(x, keep, _scale_of(keep.sum(), x, eps))
    elif modes.in_graph() or _are_functorch_transforms_active():
        key = seeds.draw_tensor(generator, x) if seed is None else library.as_tensor(seed)
        keep = block_mask.operator(x.shape, p, block_size, key, offset, x.device)
        y = masked_scale.decomposed(x, keep, _scale_of(keep.sum(), x, eps))
    else:
        keep, kept = block_mask.make(x.shape, p, block_size, seeds.resolve(x, seed, generator), offset, x.device)
        y = masked_scale.apply(x, keep, _scale_of(kept, x, eps))
    return x.copy_(y) if inplace else y


def _scale_of(kept: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return elements / (eps + kept elements), computed in float32, of float64 and its complex numbers in float64."""
    compute = torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
    return x.numel() / (eps + kept.to(compute))
