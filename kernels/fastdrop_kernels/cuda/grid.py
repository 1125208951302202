"""The loop that all GPU kernels share: grid-stride over tiles of elements, then what lies before and after the tiles.

    stream     ... |tile 0 |tile 1 |tile 2 | ... |tile n-1| ...    tiles of 8 elements (bool: 16)
    threads          0       1       2             then t, t + threads, ... until all tiles are done
    rest       ....                                        ...     before the first and after the last whole tile

What lies before the first whole tile or after the last is processed one element at a time, and so is everything if x or
y is not aligned to 16 bytes, the size of an access: correct for any length, start and address, and fast for those that
allocators return. How the lanes of a warp access memory is described in the file of each dtype in `dtypes/`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import types

from fastdrop_kernels import stream
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import VECTOR_BYTES, load
from fastdrop_kernels.cuda.packages import cuda
from fastdrop_kernels.cuda.philox import philox4x32

u32, u64 = np.uint32, np.uint64
DRAWS_PER_COUNTER: Final = u64(stream.DRAWS_PER_COUNTER)
BLOCK: Final = u64(stream.BLOCK)
UNALIGNED: Final = u64(VECTOR_BYTES - 1)
SIXTEEN: Final = u32(16)
ALL_LANES: Final = 0xFFFFFFFF

PARAMETERS: Final = {
    "x": types.uint64,  # addresses of the first element
    "y": types.uint64,
    "second": types.uint64,  # addresses of further tensors that are read
    "third": types.uint64,
    "start": types.uint64,  # index in the mask stream of the first element
    "count": types.uint64,  # elements
    "seed": types.uint64,
    "seed_address": types.uint64,  # 0, or the seed's address in device memory, for launches captured in a CUDA graph
    "offset": types.uint64,
    "p32": types.uint64,  # round(p * 2**32)
    "scale": types.float64,  # what the formula makes of p
    "shift": types.float64,
    "fill": types.float64,
    "repeat": types.uint64,  # how a mask is broadcast
    "inner": types.uint64,
}

block_threshold: Final = inlined(stream.block_threshold)


@inlined
def is_kept(e: Any, seed: Any, offset: Any, p32: Any) -> Any:
    """Return whether draw e of the mask stream keeps its element."""
    words = philox4x32(e // DRAWS_PER_COUNTER, seed, offset)
    even, odd = (words[2], words[3]) if e & u64(4) else (words[0], words[1])
    word = odd if e & u64(2) else even
    draw = u32(word >> SIXTEEN) if e & u64(1) else u32(word & u32(0xFFFF))
    return draw >= block_threshold(e // BLOCK, p32, seed, offset)


@inlined
def of_thread(condition: Any) -> Any:
    """Return whether a thread goes on, whatever the rest of its warp does."""
    return condition


@inlined
def of_warp(condition: Any) -> Any:
    """Return whether a warp goes on.

    Its threads agree anyway, but the compiler cannot know that: it would handle shuffles in diverged warps, which on
    sm_90 takes 53 registers instead of 31, and so halves the occupancy.
    """
    return cuda.any_sync(ALL_LANES, condition)


def kernel(
    traits: DTypeTraits, highest_p32: int, of_tile: Any, of_element: Any, inputs: int = 1
) -> Callable[..., None]:
    """Return the kernel, to be compiled, that calls `of_tile` for every whole tile and `of_element` for the rest.

    Both take (x, y, second, index, (seed, offset, p32), (scale, shift, fill), repeat, inner): the addresses that
    element 0 of the stream would have, and the index of the tile or element. highest_p32: above it, `of_tile` is not
    called; inputs: 2 if second is read.
    """
    compute, itemsize = traits.compute, u64(np.dtype(traits.storage).itemsize)
    tile_size, lockstep, highest = u64(traits.tile), u64(traits.lockstep), u64(highest_p32)
    goes_on = of_warp if traits.lockstep > 1 else of_thread

    def grid(
        x: Any, y: Any, second: Any, third: Any, start: Any, count: Any, seed: Any, seed_address: Any, offset: Any,
        p32: Any, scale: Any, shift: Any, fill: Any, repeat: Any, inner: Any,
    ) -> None:  # fmt: skip
        if seed_address != u64(0):
            seed = load(seed_address, u64)
        key, factors = (seed, offset, p32), (compute(scale), compute(shift), compute(fill))
        thread, threads = u64(cuda.grid(1)), u64(cuda.gridsize(1))

        first, last = (start + tile_size - u64(1)) // tile_size, (start + count) // tile_size
        before = first * tile_size - start
        if last < first or p32 > highest or ((x + before * itemsize) | (y + before * itemsize)) & UNALIGNED:
            last = first
        if inputs == 2 and (second + before * itemsize) & UNALIGNED:
            last = first
        last -= (last - first) % lockstep
        x -= start * itemsize  # from here on, elements are counted from the stream's beginning
        y -= start * itemsize
        second -= start * itemsize

        tile = first + thread
        while goes_on(tile < last):
            of_tile(x, y, second, tile, key, factors, repeat, inner)
            tile += threads

        in_tiles = (last - first) * tile_size
        i = thread
        while i < count - in_tiles:
            of_element(x, y, second, start + (i if i < before else i + in_tiles), key, factors, repeat, inner)
            i += threads

    return grid
