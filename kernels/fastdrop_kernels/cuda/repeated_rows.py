"""A row of draws that several rows of elements share: time steps, channels of channels_last memory.

Memory is (outer, repeat, inner), and element (a, b, c) takes draw a * inner + c of the mask stream. A tile whose draws
are those of one counter, as all are where a row's length is a multiple of 8, is processed as in elementwise.py; in
others, elements are processed one by one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cuda import grid
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes import DTypeTraits
from fastdrop_kernels.cuda.elementwise import HIGHEST_P32, tile_function
from fastdrop_kernels.cuda.grid import BLOCK, DRAWS_PER_COUNTER, block_threshold, is_kept
from fastdrop_kernels.cuda.intrinsics import load, store
from fastdrop_kernels.formulas import Formula

u64 = np.uint64


def kernel(formula: Formula, traits: DTypeTraits) -> Callable[..., None]:
    """Return the kernel, to be compiled, that applies `formula` with the same draws to several rows."""
    kept, dropped, results = inlined(formula.kept), inlined(formula.dropped), tile_function(formula, traits)
    storage, _, load_tile, store_tile, widen, narrow, *_ = traits
    itemsize, tile_size = u64(np.dtype(storage).itemsize), u64(stream.DRAWS_PER_COUNTER)

    @inlined
    def draw_of(e: Any, repeat: Any, inner: Any) -> Any:
        return e // inner // repeat * inner + e % inner

    @inlined
    def of_element(x: Any, y: Any, second: Any, e: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        keep = is_kept(draw_of(e, repeat, inner), key[0], key[1], key[2])
        value = widen(load(x + e * itemsize, storage))
        if_kept, if_dropped = kept(value, factors), dropped(value, factors)
        store(y + e * itemsize, narrow(if_kept if keep else if_dropped))

    @inlined
    def of_tile(x: Any, y: Any, second: Any, tile: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        first = tile * tile_size
        draw = draw_of(first, repeat, inner)
        if draw % DRAWS_PER_COUNTER == u64(0) and first % inner + tile_size <= inner:
            seed, offset, p32 = key
            values = load_tile(x + first * itemsize)
            threshold = block_threshold(draw // BLOCK, p32, seed, offset)
            store_tile(
                y + first * itemsize,
                results(values, draw // DRAWS_PER_COUNTER, seed, offset, threshold, factors),
            )
        else:
            for i in range(tile_size):
                of_element(x, y, second, first + u64(i), key, factors, repeat, inner)

    return grid.kernel(traits, HIGHEST_P32, of_tile, of_element)
