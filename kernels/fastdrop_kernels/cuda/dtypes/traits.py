"""A dtype as a GPU thread sees it.

A thread works on a tile: the 8 elements that share a counter, or 16 where 8 are fewer than 16 bytes. It loads and
stores a tile in accesses of 16 bytes, the widest that every GPU has, which the lanes of a warp make together:

    float16, bfloat16   one access    |0  |1  |2  | ...                  a tile is one access
    bool                one access    |0  |1  |2  | ...                  of 16 elements
    float32             two accesses  |0 1|0 1|2 3|2 3| ...              a pair of lanes shares two tiles: float32.py
    float64             four          |0   |0   |0   |0   |1  | ...      one after the other
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastdrop_kernels.cuda.compiler import inlined

u64 = np.uint64


@inlined
def same(value: Any) -> Any:
    """Return the value unchanged."""
    return value


@inlined
def own_halves(tile: Any) -> Any:
    """Return the indices of a tile's two halves."""
    return tile + tile, tile + tile + u64(1)


class DTypeTraits(NamedTuple):
    """How one dtype is read, written and computed in; the functions are compiled into the kernel's loop."""

    storage: type  # NumPy scalar class of one element in memory
    compute: type  # NumPy scalar class that formulas compute in
    load: Callable[[Any], Any]  # address of the thread's tile -> its values, in the compute type
    store: Callable[[Any, Any], None]  # address of the thread's tile, its values
    widen: Callable[[Any], Any] = same  # one element: storage -> compute, exact
    narrow: Callable[[Any], Any] = same  # one element: compute -> storage, rounded to nearest even
    exchange: Callable[[Any], Any] = (
        same  # the four words of the thread's counter -> those of the values that it has loaded
    )
    halves: Callable[[Any], Any] = (
        own_halves  # index of the thread's tile -> those of the half tiles that it has loaded
    )
    tile: int = 8  # elements
    lockstep: int = 1  # successive tiles that are processed all or none: 32 where the lanes of a warp exchange words
