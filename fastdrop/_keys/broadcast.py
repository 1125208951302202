"""The broadcast layout of a mask whose shape is not the tensor's.

If memory is (outer, repeat, inner) and the mask (outer, 1, inner), both row-major, a kernel applies the mask in one
pass: channels (inner = 1), channels in channels_last (inner = channels), rows of a batch, time steps.
"""

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple


def channels_of(shape: Sequence[int], batched: int = 1) -> tuple[int, ...]:
    """Return the shape of a mask of whole channels: (N, C, 1, ...), or (C, 1, ...) without a batch."""
    kept = batched + 1
    return tuple(shape)[:kept] + (1,) * (len(shape) - kept)


class BroadcastLayout(NamedTuple):
    """How often a row of draws is repeated, and how long it is."""

    repeat: int
    inner: int


NO_BROADCAST: Final = BroadcastLayout(0, 0)  # one draw for each element


@functools.lru_cache(maxsize=4096)
def broadcast_layout_of(
    shape: tuple[int, ...], strides: tuple[int, ...], noise_shape: tuple[int, ...]
) -> BroadcastLayout | None:
    """Return the layout of a mask of shape `noise_shape` over a tensor's memory; None if no kernel supports it."""
    dims = [dim for _, dim in sorted((stride, dim) for dim, stride in enumerate(strides) if shape[dim] != 1)]
    lengths, kept, dense, level = [1, 1, 1], [], 1, 0  # inner, repeat, outer: from the innermost dimension on
    for dim in dims:
        if strides[dim] != dense:
            return None
        dense *= shape[dim]
        is_repeated = noise_shape[dim] == 1
        if is_repeated != (level == 1):
            level += 1
        if level > 2:
            return None
        lengths[level] *= shape[dim]
        if not is_repeated:
            kept.append(dim)
    return BroadcastLayout(lengths[1], lengths[0]) if kept == sorted(kept, reverse=True) else None
