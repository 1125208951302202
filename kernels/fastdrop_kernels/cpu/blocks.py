"""The loop that every elementwise CPU kernel shares: fill a small buffer with draws, apply a formula, go on.

Both loops run over a piece of a block at a time, short enough that the memory traffic of one piece goes on beneath the
arithmetic of the next: over pieces of 256, arrays that exceed the cache took a third longer, over whole blocks half as
long again. What is to be read is asked for some pieces ahead, as no prefetcher of the machine's goes on while draws are
made: on a Zen 5 that takes arrays beyond the cache from 2.2 to 1.1 times a copy's time; on a Zen 4 it changes nothing.

A kernel is a C function ``void(arguments, first_block, last_block)``, the same for every operation and dtype: threads,
caching and launching know no more of it. ``arguments`` are 64-bit words:

    x, y      addresses of the first element
    start     index in the mask stream of the first element
    count     elements
    seed, offset, p (the bits of a float64)
    repeat, inner   how a mask is broadcast (see broadcast.py)
"""

from typing import Any, Final

import numpy as np
from numba import carray

from fastdrop_kernels import stream
from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.elements import Element
from fastdrop_kernels.cpu.fill import fill
from fastdrop_kernels.cpu.intrinsics import CACHE_LINE, address_of, pointer, prefetch, stack_words
from fastdrop_kernels.formulas import Formula

u64 = np.uint64
BLOCK: Final = u64(stream.BLOCK)
PIECE: Final = u64(128)
WORDS_PER_PIECE: Final = 128 // 4  # uint64 words of four 16-bit draws
WIDEST_PIECE: Final = 128  # uint64 words
DRAWS_PER_COUNTER: Final = u64(stream.DRAWS_PER_COUNTER)
HIGHEST_DRAW: Final = u64(0xFFFF)
LINE: Final = u64(CACHE_LINE)
AHEAD: Final = u64(2048)  # bytes; 512 is too few, and from 1024 to 4096 all are equal

block_threshold: Final = inlined(stream.block_threshold)


@inlined
def fill_piece(words: Any, first: Any, n: Any, threshold: Any, seed: Any, offset: Any) -> Any:
    """Write the draws of n elements of one block from `first` on, in whole counters; return how many precede them."""
    counter, skipped = first // DRAWS_PER_COUNTER, first % DRAWS_PER_COUNTER
    counters = (skipped + n + DRAWS_PER_COUNTER - u64(1)) // DRAWS_PER_COUNTER
    if threshold > HIGHEST_DRAW:  # drops all: so does a draw of 0, whatever the limit
        for i in range(u64(2) * counters):
            words[i] = u64(0)
    else:
        fill(words, counter, counters, seed, offset)
    return skipped


@inlined
def choose(
    x: Any, y: Any, draws: Any, limit: Any, factors: Any, widen: Any, kept: Any, dropped: Any, narrow: Any
) -> None:
    """Write the formula's result of every x to y; the element is kept where its draw is at least `limit`.

    Both results are made and narrowed before one is chosen, so there is no branch and the loop becomes vectors.
    """
    for i in range(u64(x.size)):
        value = widen(x[i])
        if_kept, if_dropped = narrow(kept(value, factors)), narrow(dropped(value, factors))
        y[i] = if_kept if draws[i] >= limit else if_dropped


@inlined
def copy(x: Any, y: Any) -> None:
    """Write every x to y."""
    for i in range(u64(x.size)):
        y[i] = x[i]


@inlined
def apply(
    storage: Any, itemsize: Any, x: Any, y: Any, n: Any, draws: Any,
    limit: Any, factors: Any, widen: Any, kept: Any, dropped: Any, narrow: Any,
) -> None:  # fmt: skip
    """Do so for n elements at the addresses x and y, and draws at an address.

    In place, results go by way of the stack: LLVM makes no vectors where what is written may be what is read.
    """
    if x != y:
        x_array, y_array = carray(pointer(x, storage), (n,)), carray(pointer(y, storage), (n,))
        choose(x_array, y_array, carray(pointer(draws, np.uint16), (n,)), limit, factors, widen, kept, dropped, narrow)
        return
    buffer = address_of(stack_words(WIDEST_PIECE))
    for first in range(u64(0), n, PIECE):
        m = min(PIECE, n - first)
        y_array, results = carray(pointer(y + first * itemsize, storage), (m,)), carray(pointer(buffer, storage), (m,))
        which = carray(pointer(draws + first * u64(2), np.uint16), (m,))
        choose(y_array, results, which, limit, factors, widen, kept, dropped, narrow)
        copy(results, y_array)


def kernel(formula: Formula, dtype: str, element: Element) -> Any:
    """Compile the kernel that applies `formula` to every element with a draw of its own.

    What the compiled function takes from here are module-level functions and classes: Numba finds cached code by their
    pickled names, while a function made in here would be pickled differently by every process.
    """
    factors_of, kept, dropped = formula.factors, formula.kept, formula.dropped
    storage, compute, widen, narrow = element
    itemsize = u64(np.dtype(storage).itemsize)

    def pieces(arguments: Any, first_block: Any, last_block: Any) -> None:
        x_address, y_address, start, count = arguments[0], arguments[1], arguments[2], arguments[3]
        seed, offset, p = arguments[4], arguments[5], float64_from_bits(arguments[6])
        factors = factors_of(p, compute)
        p32 = u64(np.rint(p * 2.0**32))
        words = stack_words(WORDS_PER_PIECE)
        draws = address_of(words)
        for block in range(first_block, last_block):
            threshold = block_threshold(block, p32, seed, offset)
            limit = np.uint16(min(threshold, HIGHEST_DRAW))
            first, end = max(block * BLOCK, start), min((block + u64(1)) * BLOCK, start + count)
            while first < end:
                n = min(PIECE - first % PIECE, end - first)
                x, y = x_address + (first - start) * itemsize, y_address + (first - start) * itemsize
                if n == PIECE and threshold <= HIGHEST_DRAW:  # the same with a constant count: no remainder loops
                    for line in range(PIECE * itemsize // LINE):
                        prefetch(x + AHEAD + line * LINE)
                    fill(words, first // DRAWS_PER_COUNTER, PIECE // DRAWS_PER_COUNTER, seed, offset)
                    apply(storage, itemsize, x, y, PIECE, draws, limit, factors, widen, kept, dropped, narrow)
                else:
                    skipped = fill_piece(words, first, n, threshold, seed, offset)
                    first_draw = draws + skipped * u64(2)
                    apply(storage, itemsize, x, y, n, first_draw, limit, factors, widen, kept, dropped, narrow)
                first += n

    return compile_callback(KERNEL, pieces, f"{formula.name}_{dtype}")
