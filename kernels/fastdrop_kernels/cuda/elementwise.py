"""One draw for each element: y = f(x, keep).

A tile takes one Philox counter (bool: two), one threshold, which 128 successive tiles share, and accesses of 16 bytes.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cuda import grid
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes import DTypeTraits
from fastdrop_kernels.cuda.grid import SIXTEEN, block_threshold, is_kept
from fastdrop_kernels.cuda.intrinsics import load, store
from fastdrop_kernels.cuda.philox import philox4x32
from fastdrop_kernels.formulas import Formula

u32, u64 = np.uint32, np.uint64
HIGHEST_P32: Final = 0xFFFF0000  # above it a threshold may be 65536, which a comparison of 32-bit limits cannot express


def tile_function(formula: Formula, traits: DTypeTraits) -> Callable[..., Any]:
    """Return a device function (values, first counter, seed, offset, threshold, factors) -> results of a tile."""
    kept, dropped, exchange = inlined(formula.kept), inlined(formula.dropped), traits.exchange

    @inlined
    def choose(value: Any, word: Any, limit: Any, factors: Any) -> Any:
        # Both are computed before one is selected, so there is no branch.
        if_kept, if_dropped = kept(value, factors), dropped(value, factors)
        return if_kept if word >= limit else if_dropped

    @inlined
    def apply(v: Any, words: Any, limit: Any, factors: Any) -> Any:
        # An upper draw is compared together with the lower one, which cannot matter: the limit's lower half is 0.
        a, b, c, d = words
        return (
            choose(v[0], u32(a << SIXTEEN), limit, factors), choose(v[1], a, limit, factors),
            choose(v[2], u32(b << SIXTEEN), limit, factors), choose(v[3], b, limit, factors),
            choose(v[4], u32(c << SIXTEEN), limit, factors), choose(v[5], c, limit, factors),
            choose(v[6], u32(d << SIXTEEN), limit, factors), choose(v[7], d, limit, factors),
        )  # fmt: skip

    @inlined
    def one_counter(v: Any, counter: Any, seed: Any, offset: Any, threshold: Any, factors: Any) -> Any:
        return apply(v, exchange(philox4x32(counter, seed, offset)), u32(threshold << u64(16)), factors)

    @inlined
    def two_counters(v: Any, counter: Any, seed: Any, offset: Any, threshold: Any, factors: Any) -> Any:
        first = one_counter(v[:8], counter, seed, offset, threshold, factors)
        return first + one_counter(v[8:], counter + u64(1), seed, offset, threshold, factors)

    return two_counters if traits.tile > stream.DRAWS_PER_COUNTER else one_counter  # type: ignore[no-any-return]


def kernel(formula: Formula, traits: DTypeTraits) -> Callable[..., None]:
    """Return the kernel, to be compiled, that applies `formula` with one draw for each element."""
    kept, dropped, results = inlined(formula.kept), inlined(formula.dropped), tile_function(formula, traits)
    storage, load_tile, widen, store_tile, narrow = (
        traits.storage, traits.load, traits.widen, traits.store, traits.narrow,
    )  # fmt: skip
    itemsize, tile_size = u64(np.dtype(storage).itemsize), u64(traits.tile)
    counters, tiles_per_block = u64(traits.tile // stream.DRAWS_PER_COUNTER), u64(stream.BLOCK // traits.tile)

    @inlined
    def one(x: Any, second: Any, place: Any) -> Any:
        return load_tile(x + place)

    @inlined
    def two(x: Any, second: Any, place: Any) -> Any:
        v, w = load_tile(x + place), load_tile(second + place)
        return (
            (v[0], w[0]), (v[1], w[1]), (v[2], w[2]), (v[3], w[3]),
            (v[4], w[4]), (v[5], w[5]), (v[6], w[6]), (v[7], w[7]),
        )  # fmt: skip

    @inlined
    def one_element(x: Any, second: Any, place: Any) -> Any:
        return widen(load(x + place, storage))

    @inlined
    def two_elements(x: Any, second: Any, place: Any) -> Any:
        return widen(load(x + place, storage)), widen(load(second + place, storage))

    read_tile, read_element = (two, two_elements) if formula.inputs == 2 else (one, one_element)

    @inlined
    def of_tile(x: Any, y: Any, second: Any, tile: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        seed, offset, p32 = key
        values = read_tile(x, second, tile * (tile_size * itemsize))
        threshold = block_threshold(tile // tiles_per_block, p32, seed, offset)
        result = results(values, tile * counters, seed, offset, threshold, factors)
        store_tile(y + tile * (tile_size * itemsize), result)

    @inlined
    def of_element(x: Any, y: Any, second: Any, e: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        keep = is_kept(e, key[0], key[1], key[2])
        value = read_element(x, second, e * itemsize)
        if_kept, if_dropped = kept(value, factors), dropped(value, factors)
        store(y + e * itemsize, narrow(if_kept if keep else if_dropped))

    return grid.kernel(traits, HIGHEST_P32, of_tile, of_element, formula.inputs)
