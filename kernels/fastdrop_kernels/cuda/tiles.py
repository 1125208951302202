"""The kernel that every elementwise GPU operation shares: y = f(x, keep), a tile a thread and turn.

    stream     ... |tile 0 |tile 1 |tile 2 | ... |tile n-1| ...    tiles of 8 elements (bool: 16), a counter each
    threads          0       1       2             then t, t + threads, ... until all tiles are done
    rest       ....                                        ...     before the first and after the last whole tile

A tile takes one Philox counter, one threshold (128 successive tiles share it) and accesses of 16 bytes only. What lies
before the first whole tile or after the last is done an element at a time, and so is everything where an access of 16
bytes is not possible, because x or y is not aligned to it: right for any length, start and address, and fast for
those that allocators give. How a warp's accesses lie in memory says the file of each dtype in `elements/`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import types

from fastdrop_kernels import stream
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.elements import Element
from fastdrop_kernels.cuda.intrinsics import VECTOR_BYTES, load, store
from fastdrop_kernels.cuda.packages import cuda
from fastdrop_kernels.cuda.philox import philox4x32
from fastdrop_kernels.formulas import Formula

u32, u64 = np.uint32, np.uint64
DRAWS_PER_COUNTER: Final = u64(stream.DRAWS_PER_COUNTER)
BLOCK: Final = u64(stream.BLOCK)
UNALIGNED: Final = u64(VECTOR_BYTES - 1)
SIXTEEN: Final = u32(16)
ALL_LANES: Final = 0xFFFFFFFF
HIGHEST_P32: Final = u64(0xFFFF0000)  # beyond it a threshold may be 65536, which no 32-bit comparison can say

PARAMETERS: Final = {
    "x": types.uint64,  # addresses of the first element
    "y": types.uint64,
    "start": types.uint64,  # index in the mask stream of the first element
    "count": types.uint64,  # elements
    "seed": types.uint64,
    "seed_address": types.uint64,  # 0, or where in device memory the seed is, for launches that are recorded
    "offset": types.uint64,
    "p32": types.uint64,  # round(p * 2**32)
    "factors": types.float64,  # what the formula makes of p
}

block_threshold: Final = inlined(stream.block_threshold)


@inlined
def draw(words: Any, e: Any) -> Any:
    """Return element e's draw out of its counter's four words."""
    even, odd = (words[2], words[3]) if e & u64(4) else (words[0], words[1])
    word = odd if e & u64(2) else even
    return u32(word >> SIXTEEN) if e & u64(1) else u32(word & u32(0xFFFF))


def tile_function(formula: Formula, source: Element, target: Element) -> Callable[..., Any]:
    """Return a device function (values, first counter, seed, offset, threshold, factors) -> results of a tile."""
    kept, dropped, deal = inlined(formula.kept), inlined(formula.dropped), source.deal

    @inlined
    def choose(value: Any, word: Any, limit: Any, factors: Any) -> Any:
        # Both are computed before one is chosen: a select, no branch.
        if_kept, if_dropped = kept(value, factors), dropped(value, factors)
        return if_kept if word >= limit else if_dropped

    @inlined
    def apply(v: Any, words: Any, limit: Any, factors: Any) -> Any:
        # A draw in an upper half is compared with what lies below it, which a limit with a lower half of 0 ignores.
        a, b, c, d = words
        return (
            choose(v[0], u32(a << SIXTEEN), limit, factors), choose(v[1], a, limit, factors),
            choose(v[2], u32(b << SIXTEEN), limit, factors), choose(v[3], b, limit, factors),
            choose(v[4], u32(c << SIXTEEN), limit, factors), choose(v[5], c, limit, factors),
            choose(v[6], u32(d << SIXTEEN), limit, factors), choose(v[7], d, limit, factors),
        )  # fmt: skip

    @inlined
    def one_counter(v: Any, counter: Any, seed: Any, offset: Any, threshold: Any, factors: Any) -> Any:
        return apply(v, deal(philox4x32(counter, seed, offset)), u32(threshold << u64(16)), factors)

    @inlined
    def two_counters(v: Any, counter: Any, seed: Any, offset: Any, threshold: Any, factors: Any) -> Any:
        first = one_counter(v[:8], counter, seed, offset, threshold, factors)
        return first + one_counter(v[8:], counter + u64(1), seed, offset, threshold, factors)

    return two_counters if target.tile > stream.DRAWS_PER_COUNTER else one_counter  # type: ignore[no-any-return]


@inlined
def of_thread(condition: Any) -> Any:
    """Return whether a thread goes on by itself."""
    return condition


@inlined
def of_warp(condition: Any) -> Any:
    """Return whether a warp goes on.

    Its threads agree anyway, but now the compiler knows: else it would prepare for shuffles in warps that have parted,
    which on sm_90 takes 53 registers instead of 31, so that half as many threads fit a multiprocessor.
    """
    return cuda.any_sync(ALL_LANES, condition)


def kernel(formula: Formula, source: Element, target: Element) -> Callable[..., None]:
    """Return the kernel, to be compiled, that applies `formula` to elements read as `source`, written as `target`."""
    kept, dropped, results = inlined(formula.kept), inlined(formula.dropped), tile_function(formula, source, target)
    read, compute, load_tile, widen = source.storage, source.compute, source.load, source.widen
    store_tile, narrow = target.store, target.narrow
    x_bytes, y_bytes = u64(np.dtype(read).itemsize), u64(np.dtype(target.storage).itemsize)
    tile_size, together = u64(target.tile), u64(target.together)
    goes_on = of_warp if target.together > 1 else of_thread
    counters, tiles_per_block = u64(target.tile // stream.DRAWS_PER_COUNTER), u64(stream.BLOCK // target.tile)

    def tiles(
        x: Any, y: Any, start: Any, count: Any, seed: Any, seed_address: Any, offset: Any, p32: Any, factors: Any
    ) -> None:
        if seed_address != u64(0):
            seed = load(seed_address, u64)
        factors = compute(factors)
        thread, threads = u64(cuda.grid(1)), u64(cuda.gridsize(1))

        first, last = (start + tile_size - u64(1)) // tile_size, (start + count) // tile_size
        before = first * tile_size - start
        if last < first or p32 > HIGHEST_P32 or ((x + before * x_bytes) | (y + before * y_bytes)) & UNALIGNED:
            last = first
        last -= (last - first) % together
        x -= start * x_bytes  # from here on, elements are counted from the stream's beginning
        y -= start * y_bytes

        tile = first + thread
        while goes_on(tile < last):
            values = load_tile(x + tile * (tile_size * x_bytes))
            threshold = block_threshold(tile // tiles_per_block, p32, seed, offset)
            result = results(values, tile * counters, seed, offset, threshold, factors)
            store_tile(y + tile * (tile_size * y_bytes), result)
            tile += threads

        in_tiles = (last - first) * tile_size
        i = thread
        while i < count - in_tiles:
            e = start + (i if i < before else i + in_tiles)
            keep = draw(philox4x32(e // DRAWS_PER_COUNTER, seed, offset), e) >= block_threshold(
                e // BLOCK, p32, seed, offset
            )
            value = widen(load(x + e * x_bytes, read))
            if_kept, if_dropped = kept(value, factors), dropped(value, factors)
            store(y + e * y_bytes, narrow(if_kept if keep else if_dropped))
            i += threads

    return tiles
