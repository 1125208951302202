"""The loop that every elementwise CPU kernel shares: fill a small buffer with draws, apply a formula, repeat.

Both loops work on a piece of a block at a time, short enough that the memory traffic of one piece overlaps with the
arithmetic of the next: with pieces of 256, arrays that exceed the cache took a third longer, with whole blocks half as
long again. The input is prefetched a few pieces ahead, because the hardware prefetchers stall while draws are made: on
a Zen 5 this takes arrays larger than the cache from 2.2 to 1.1 times a copy's time; on a Zen 4 it changes nothing.

A kernel is a C function ``void(arguments, first_block, last_block)``, the same for every operation and dtype: threads,
caching and launching need to know no more. ``arguments`` are 64-bit words, in the order of ``fastdrop_kernels.launch``.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.dtypes import DTypeTraits
from fastdrop_kernels.cpu.intrinsics import address_of, load, pointer, prefetch, stack_words, store
from fastdrop_kernels.cpu.philox import fill
from fastdrop_kernels.cpu.stores import LINE, use_nontemporal, write
from fastdrop_kernels.formulas import Formula
from fastdrop_kernels.launch import COUNT, OFFSET, PARAMETER, SECOND, SEED, START, X, Y

u64 = np.uint64
BLOCK: Final = u64(stream.BLOCK)
PIECE: Final = u64(128)
WORDS_PER_PIECE: Final = 128 // 4  # uint64 words of four 16-bit draws
DRAWS_PER_COUNTER: Final = u64(stream.DRAWS_PER_COUNTER)
HIGHEST_DRAW: Final = u64(0xFFFF)
PREFETCH_DISTANCE: Final = u64(2048)  # bytes; 512 is too few, and from 1024 to 4096 all are equal

block_threshold: Final = inlined(stream.block_threshold)


@inlined
def fill_piece(words: Any, first: Any, n: Any, threshold: Any, seed: Any, offset: Any) -> Any:
    """Write the draws of n elements of one block from `first` on, in whole counters; return how many precede them."""
    counter, skipped = first // DRAWS_PER_COUNTER, first % DRAWS_PER_COUNTER
    counters = (skipped + n + DRAWS_PER_COUNTER - u64(1)) // DRAWS_PER_COUNTER
    if threshold > HIGHEST_DRAW:  # drops all, as a draw of 0 does with any limit
        for i in range(u64(2) * counters):
            words[i] = u64(0)
    else:
        fill(words, counter, counters, seed, offset)
    return skipped


@inlined
def read_one(x: Any, i: Any, second: Any, widen: Any) -> Any:
    """Return an element in the compute type."""
    return widen(load(x, i))


@inlined
def read_two(x: Any, i: Any, second: Any, widen: Any) -> Any:
    """Return an element and that of a second tensor, in the compute type."""
    return widen(load(x, i)), widen(load(second, i))


@inlined
def choose(x: Any, y: Any, n: Any, first: Any, arguments: Any) -> None:
    """Write the formula's result of every x to y; an element is kept where its draw is at least `limit`.

    Both results are computed and narrowed before one is selected: there is no branch, and LLVM vectorizes the loop.
    """
    draws, limit, (read, second, storage, itemsize), (factors, widen, kept, dropped, narrow) = arguments
    which, others = pointer(draws + first * u64(2), np.uint16), pointer(second + first * itemsize, storage)
    for i in range(n):
        value = read(x, i, others, widen)
        if_kept, if_dropped = narrow(kept(value, factors)), narrow(dropped(value, factors))
        store(y, i, if_kept if load(which, i) >= limit else if_dropped)


def kernel(formula: Formula, dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel that applies `formula` with one draw for each element."""
    factors_of, kept, dropped = formula.factors, formula.kept, formula.dropped
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)
    reads_two = formula.inputs == 2
    read = read_two if reads_two else read_one

    def pieces(arguments: Any, first_block: Any, last_block: Any) -> None:
        x_address, y_address, start, count = arguments[X], arguments[Y], arguments[START], arguments[COUNT]
        seed, offset, p = arguments[SEED], arguments[OFFSET], float64_from_bits(arguments[PARAMETER])
        results = factors_of(p, compute), widen, kept, dropped, narrow
        p32 = u64(np.rint(p * 2.0**32))
        nontemporal = use_nontemporal(x_address, y_address, count * itemsize, start * itemsize)
        words = stack_words(WORDS_PER_PIECE)
        draws = address_of(words)
        for block in range(first_block, last_block):
            threshold = block_threshold(block, p32, seed, offset)
            limit = np.uint16(min(threshold, HIGHEST_DRAW))
            first, end = max(block * BLOCK, start), min((block + u64(1)) * BLOCK, start + count)
            while first < end:
                n = min(PIECE - first % PIECE, end - first)
                x, y = x_address + (first - start) * itemsize, y_address + (first - start) * itemsize
                second = arguments[SECOND] + (first - start) * itemsize
                reading = read, second, storage, itemsize
                if n == PIECE and threshold <= HIGHEST_DRAW:  # a constant count needs no remainder loops
                    for line in range(PIECE * itemsize // LINE):
                        prefetch(x + PREFETCH_DISTANCE + line * LINE)
                        if reads_two:
                            prefetch(second + PREFETCH_DISTANCE + line * LINE)
                    fill(words, first // DRAWS_PER_COUNTER, PIECE // DRAWS_PER_COUNTER, seed, offset)
                    these = draws, limit, reading, results
                    write(choose, storage, itemsize, x, y, PIECE, nontemporal, these)
                else:
                    skipped = fill_piece(words, first, n, threshold, seed, offset)
                    those = draws + skipped * u64(2), limit, reading, results
                    write(choose, storage, itemsize, x, y, n, nontemporal, those)
                first += n

    return compile_callback(KERNEL, pieces, f"{formula.name}_{dtype}")
