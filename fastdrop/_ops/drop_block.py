"""DropBlock below its arguments: the mask, the scale."""

import torch

from fastdrop._keys.key import Seed
from fastdrop._ops import block_mask, masked_scale
from fastdrop._ops.dispatch import route_mask


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
    size, device = x.shape, x.device
    keep, kept = route_mask(
        x,
        seed,
        generator,
        by_torchs_draws=lambda: block_mask.by_torchs_draws(size, p, block_size, device),
        by_operator=lambda fresh: block_mask.with_sum(block_mask.operator(size, p, block_size, fresh, offset, device)),
        by_kernel=lambda fresh: block_mask.make(size, p, block_size, fresh, offset, device),
    )
    y = masked_scale.apply(x, keep, _scale_of(kept, x, eps))
    return x.copy_(y) if inplace else y


def _scale_of(kept: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return elements / (eps + kept elements), computed in float32, of float64 and its complex numbers in float64."""
    compute = torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
    return x.numel() / (eps + kept.to(compute))
