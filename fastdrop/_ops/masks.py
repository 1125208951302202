"""Masks by themselves: for users, and for members that apply them by torch's own operators."""

from collections.abc import Sequence

import torch
from torch._C import _are_functorch_transforms_active

from fastdrop._devices import kernels
from fastdrop._keys import seeds
from fastdrop._keys.key import Seed
from fastdrop._ops import decompose, library, modes
from fastdrop._ops.modes import is_exported


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
    if seed is None and generator is None and is_exported():
        return decompose.mask_by_torchs_draws(shape, p, where.device)
    in_graph = modes.in_graph()
    if seed is None and (in_graph or _are_functorch_transforms_active()):
        seed = seeds.draw_tensor(generator, where)
    if in_graph or (_are_functorch_transforms_active() and isinstance(seed, torch.Tensor)):  # one of a batch, maybe
        return library.mask(shape, p, seed, offset, start, where.device)  # type: ignore[arg-type]
    return kernels.mask(shape, p, seeds.resolve(where, seed, generator), offset, start, device=where.device)
