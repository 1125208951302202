"""Masks by themselves: for users, and for ops that apply them by torch's own operators."""

from collections.abc import Sequence

import torch

from fastdrop._keys.key import Seed
from fastdrop._ops import decompose, draws, library
from fastdrop._ops.dispatch import route_mask


def mask(
    where: torch.Tensor,
    shape: Sequence[int],
    p: float,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
    start: int = 0,
) -> torch.Tensor:
    """Return a bool tensor, True where an element is kept, on the device of `where`.

    It is that of a seed, or of a fresh one where seed is None. It counts its elements row by row, from start on.
    """
    device = where.device
    keep: torch.Tensor = route_mask(
        where,
        seed,
        generator,
        by_torchs_draws=lambda: decompose.mask_by_torchs_draws(shape, p, device),
        by_operator=lambda fresh: library.mask_operator(shape, p, fresh, offset, start, device),
        by_kernel=lambda fresh: draws.mask(shape, p, fresh, offset, start, device=device),
    )
    return keep
