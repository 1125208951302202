"""The loop with one draw for each contiguous segment: channels, rows of a batch. A dropped segment is not read.

Memory consists of segments of `repeat` elements, and segment s takes draw s of the mask stream. Segments are split
where a range of blocks begins or ends: threads share elements, as in all kernels, however few segments there are.

Short segments are kept or dropped without a branch, which would cost as much as they do: a dropped one reads zeros
instead of its elements, with factors that map zero to what dropped elements become. Memory is accessed in order, which
suits hardware prefetchers. What they cannot predict is prefetched by software: in large arrays the input ahead and, at
the end of a long segment, the start of the next segment that is kept; in smaller arrays only what follows tiny
segments. On a Zen 3 this takes large arrays from 0.92 to 0.8 times a copy's time; smaller ones, whose results stay in
the caches, would take a fifth longer with it.
"""

from typing import Any, Final

import numpy as np
from numba import carray

from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.dtypes import DTypeTraits
from fastdrop_kernels.cpu.elementwise import BLOCK, HIGHEST_DRAW, PIECE, WORDS_PER_PIECE, block_threshold, fill_piece
from fastdrop_kernels.cpu.intrinsics import address_of, load, pointer, prefetch, stack_words, store
from fastdrop_kernels.cpu.stores import LINE, NONTEMPORAL_MIN_BYTES, use_nontemporal, write
from fastdrop_kernels.formulas import Formula
from fastdrop_kernels.launch import COUNT, OFFSET, PARAMETER, REPEAT, SEED, START, X, Y

u64 = np.uint64
SHORT: Final = 1024  # bytes
TINY: Final = u64(256)  # bytes
WORDS_PER_SHORT_SEGMENT: Final = SHORT // 8
PREFETCH_DISTANCE: Final = u64(4096)  # bytes; with half as many, arrays larger than the cache take a tenth longer


@inlined
def keep(x: Any, y: Any, n: Any, first: Any, arguments: Any) -> None:
    """Write the formula's result of every x to y, two cache lines a step, and prefetch from `next_read` on in step.

    With fewer, LLVM uses vectors of half a register. With more, it alternates four loads with four stores, which takes
    AVX-512 a quarter longer on arrays larger than the cache.
    """
    next_read, step, at_once, factors, widen, kept, narrow = arguments
    next_read += first // at_once * u64(2) * step
    whole = n - n % at_once
    for pair in range(u64(0), whole, at_once):
        prefetch(next_read)
        prefetch(next_read + step)
        next_read += u64(2) * step
        for i in range(at_once):
            store(y, pair + i, narrow(kept(widen(load(x, pair + i)), factors)))
    for i in range(whole, n):
        store(y, i, narrow(kept(widen(load(x, i)), factors)))


@inlined
def drop(x: Any, y: Any, n: Any, first: Any, value: Any) -> None:
    """Write what a dropped element becomes to all of y."""
    for i in range(n):
        store(y, i, value)


@inlined
def clip(segment: Any, length: Any, first: Any, end: Any) -> Any:
    """Return where a segment begins, and how long it is, within a range of elements."""
    here = max(segment * length, first)
    return here, min((segment + u64(1)) * length, end) - here


def kernel(formula: Formula, dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel that applies `formula` with one draw for each segment."""
    factors_of, kept, dropped = formula.factors, formula.kept, formula.dropped
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)
    at_once = u64(2) * LINE // itemsize

    def segments(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, elements, seed, offset = arguments[START], arguments[COUNT], arguments[SEED], arguments[OFFSET]
        length, p = arguments[REPEAT], float64_from_bits(arguments[PARAMETER])
        x_address, y_address = arguments[X] - start * itemsize, arguments[Y] - start * itemsize  # of element 0
        p32 = u64(np.rint(p * 2.0**32))
        factors = factors_of(p, compute)
        scale, shift, fill = factors
        fill_value = narrow(dropped(compute(0), factors))
        words, zeros = stack_words(WORDS_PER_PIECE), stack_words(WORDS_PER_SHORT_SEGMENT)
        draws = carray(pointer(address_of(words), np.uint16), (PIECE,))
        for i in range(WORDS_PER_SHORT_SEGMENT):
            zeros[i] = u64(0)
        is_large, is_short = elements * itemsize >= NONTEMPORAL_MIN_BYTES, length * itemsize <= u64(SHORT)
        nontemporal = use_nontemporal(x_address, y_address, elements * itemsize, length * itemsize)
        step = LINE if is_large or length * itemsize <= TINY else u64(0)  # a useless prefetch costs time too
        ahead = min(PREFETCH_DISTANCE // itemsize, length) if is_large else u64(0)
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + elements)
        while first < end:
            segment = first // length
            count = min(PIECE - segment % PIECE, (end - u64(1)) // length + u64(1) - segment)
            threshold = block_threshold(segment // BLOCK, p32, seed, offset)
            limit = np.uint16(min(threshold, HIGHEST_DRAW))
            skipped = fill_piece(words, segment, count, threshold, seed, offset)
            for i in range(count):
                here, n = clip(segment + i, length, first, end)
                x, y, is_kept = x_address + here * itemsize, y_address + here * itemsize, draws[skipped + i] >= limit
                if is_short:
                    source = x if is_kept else address_of(zeros)
                    these = scale if is_kept else compute(0), shift if is_kept else fill, fill
                    short = x + PREFETCH_DISTANCE, step, at_once, these, widen, kept, narrow
                    write(keep, storage, itemsize, source, y, n, nontemporal, short)
                elif is_kept:
                    after = i + u64(1)
                    while is_large and after < count and draws[skipped + after] < limit:
                        after += u64(1)
                    next_kept = x_address + (segment + after) * length * itemsize if after < count else x
                    begun = n - min(n, ahead)
                    begun -= begun % at_once
                    own = x + ahead * itemsize, step, at_once, factors, widen, kept, narrow
                    write(keep, storage, itemsize, x, y, begun, nontemporal, own)
                    x, y, others = x + begun * itemsize, y + begun * itemsize, (next_kept, *own[1:])
                    write(keep, storage, itemsize, x, y, n - begun, nontemporal, others)
                else:
                    write(drop, storage, itemsize, x, y, n, nontemporal, fill_value)
            first = (segment + count) * length

    return compile_callback(KERNEL, segments, f"segments_{formula.name}_{dtype}")
