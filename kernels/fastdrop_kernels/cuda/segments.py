"""One draw for each contiguous segment: channels, rows of a batch. A dropped segment is not read.

Memory consists of segments of `repeat` elements, and segment s takes draw s of the mask stream. A tile within one
segment is kept or dropped as a whole; where segments are shorter than a tile, or one begins within it, elements are
processed one by one.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fastdrop_kernels.cuda import grid
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes import DTypeTraits
from fastdrop_kernels.cuda.grid import is_kept
from fastdrop_kernels.cuda.intrinsics import load, store
from fastdrop_kernels.formulas import Formula

u64 = np.uint64
ANY_P32: Final = 1 << 32


def kernel(formula: Formula, traits: DTypeTraits) -> Callable[..., None]:
    """Return the kernel, to be compiled, that applies `formula` with one draw for each segment."""
    kept, dropped = inlined(formula.kept), inlined(formula.dropped)
    storage, compute, load_tile, store_tile, widen, narrow, *_ = traits
    itemsize, tile_size = u64(np.dtype(storage).itemsize), u64(traits.tile)

    @inlined
    def eight(v: Any, f: Any) -> Any:
        return (
            kept(v[0], f), kept(v[1], f), kept(v[2], f), kept(v[3], f),
            kept(v[4], f), kept(v[5], f), kept(v[6], f), kept(v[7], f),
        )  # fmt: skip

    @inlined
    def of_element(x: Any, y: Any, second: Any, e: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        result = dropped(compute(0), factors)
        if is_kept(e // repeat, key[0], key[1], key[2]):
            result = kept(widen(load(x + e * itemsize, storage)), factors)
        store(y + e * itemsize, narrow(result))

    @inlined
    def of_tile(x: Any, y: Any, second: Any, tile: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        first = tile * tile_size
        segment = first // repeat
        if first + tile_size <= (segment + u64(1)) * repeat:
            if is_kept(segment, key[0], key[1], key[2]):
                store_tile(y + first * itemsize, eight(load_tile(x + first * itemsize), factors))
            else:
                d = dropped(compute(0), factors)
                store_tile(y + first * itemsize, (d, d, d, d, d, d, d, d))
        else:
            for i in range(tile_size):
                of_element(x, y, second, first + u64(i), key, factors, repeat, inner)

    return grid.kernel(traits, ANY_P32, of_tile, of_element)
