"""DropBlock's mask, by itself and as an operator of torch.library, which compiled graphs and torch.func hold.

Blocks start where the mask stream drops: where they fit as a whole, so the stream's mask is smaller than the input.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import profiler
from torch.nn.functional import pad

from fastdrop._devices import profile
from fastdrop._keys.arguments import check_probability, check_seed
from fastdrop._keys.key import Seed
from fastdrop._ops import decompose, draws, inductor_fallbacks
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.resolve import resolve
from fastdrop_kernels.cpu.dilate import dilate_blocks, workspace_bytes

_library: Any = torch.library.Library("fastdrop", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "drop_block_mask(SymInt[] size, float p, SymInt block_size, Tensor seed, SymInt offset=0, Device? device=None) "
    "-> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)
operator: Any = torch.ops.fastdrop.drop_block_mask.default
inductor_fallbacks.OPERATORS.append(operator)


def make(
    size: Sequence[int], p: float, block_size: int, seed: Seed, offset: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a contiguous bool mask, False in blocks, of a size (N, C, ...) that such blocks fit in; and its sum."""
    shape, gamma = _places(size, p, block_size)
    space = size[2:]
    starts = draws.mask(shape, gamma, seed, offset, device=device)
    if device.type != "cpu":
        return with_sum(dilate(starts, block_size))
    mask, workspace = np.empty(size, np.bool_), np.empty(workspace_bytes(math.prod(space)), np.bool_)  # unseen
    volume = (1, *space, 1, block_size) if len(space) == 2 else (*space, block_size, block_size)
    event = profile.begin("dilate_blocks") if profiler._is_profiler_enabled else None
    kept = dilate_blocks(starts.data_ptr(), mask.ctypes.data, workspace.ctypes.data, math.prod(size[:2]), *volume)
    if event is not None:
        event.__exit__(None, None, None)
    return torch.from_numpy(mask), torch.tensor(kept)


def by_torchs_draws(
    size: Sequence[int], p: float, block_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return such a mask by torch's own random operators, and its sum: a trace of them draws at each run."""
    return with_sum(dilate(decompose.mask_by_torchs_draws(*_places(size, p, block_size), device), block_size))


def with_sum(keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a mask and its sum."""
    return keep, keep.sum()


def _places(size: Sequence[int], p: float, block_size: int) -> tuple[Sequence[int], float]:
    """Return the shape of the mask of all places that a block can start at, and the probability that one does.

    That is torchvision's: blocks overlap more rarely than they start, and about p of all is dropped.
    """
    space = size[2:]
    places = [length - block_size + 1 for length in space]
    return (*size[:2], *places), (p * math.prod(space)) / (block_size ** len(space) * math.prod(places))


def dilate(starts: torch.Tensor, block_size: int) -> torch.Tensor:
    """Return a mask that is False where one of the blocks that start at a False lies.

    As no block leaves its plane, the mask can be taken as one row of memory; a run of falses doubles at each step.
    """
    rank = starts.dim() - 2
    mask = pad(starts, (0, block_size - 1) * rank, value=True)
    row = mask.flatten()
    for stride in mask.stride()[2:]:
        run = 1
        while run < block_size:
            step = min(run, block_size - run)
            longer = row.clone()
            longer[step * stride :] &= row[: -step * stride]
            row, run = longer, run + step
    return row.view(mask.shape)


@dynamo_skip
def _mask(
    size: Sequence[int], p: float, block_size: int, seed: torch.Tensor, offset: int = 0, device: Any = None
) -> torch.Tensor:
    """Return the mask, with the seed as it is now."""
    check_probability(p)
    where = torch.empty(0, device=device)
    return make(size, p, block_size, resolve(where, check_seed(seed), None), offset, where.device)[0]


def _fake_mask(
    size: Sequence[int], p: float, block_size: int, seed: torch.Tensor, offset: int = 0, device: Any = None
) -> torch.Tensor:
    """Return an empty tensor like the mask."""
    inductor_fallbacks.announce()
    return torch.empty(size, dtype=torch.bool, device=device)


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], size: Sequence[int], p: float, block_size: int, seeds: torch.Tensor,
    *rest: Any,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Return a mask a seed."""
    return torch.stack([operator(size, p, block_size, seed, *rest) for seed in seeds.unbind(in_dims[3] or 0)]), 0


_library.impl("drop_block_mask", _mask, "CompositeExplicitAutograd")
torch.library.register_fake(operator, _fake_mask, lib=_library)
torch.library.register_vmap(operator, _vmap, lib=_library)
