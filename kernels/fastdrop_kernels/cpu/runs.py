"""The loop for one draw for a run of elements: channels, rows of a batch. A run that is dropped is not read.

Memory is runs of `repeat` elements, and run r takes draw r of the mask stream. Runs are cut where a range of blocks
begins or ends: threads share elements, as in all kernels, however few runs there are.

Of a group of short runs, those to keep are sorted out, without a branch, and done before the others: a branch for each
that is taken or not by chance costs short runs as much as their elements. Long runs are done in order, as prefetchers
want it.
"""

from typing import Any, Final

import numpy as np
from numba import carray

from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.blocks import (
    BLOCK,
    HIGHEST_DRAW,
    PIECE,
    WIDEST_PIECE,
    WORDS_PER_PIECE,
    block_threshold,
    copy,
    fill_piece,
)  # fmt: skip
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.elements import Element
from fastdrop_kernels.cpu.intrinsics import address_of, pointer, stack_words
from fastdrop_kernels.formulas import Formula

u64 = np.uint64
PIECE_OF_RUNS: Final = 128
GROUP: Final = u64(8192)  # bytes


@inlined
def keep(x: Any, y: Any, factors: Any, widen: Any, kept: Any, narrow: Any) -> None:
    """Write the formula's result of every x to y."""
    for i in range(u64(x.size)):
        y[i] = narrow(kept(widen(x[i]), factors))


@inlined
def apply(
    storage: Any, itemsize: Any, x: Any, y: Any, n: Any, factors: Any, widen: Any, kept: Any, narrow: Any
) -> None:
    """Do so for n elements at the addresses x and y; in place, as in blocks.py, by way of the stack."""
    if x != y:
        keep(carray(pointer(x, storage), (n,)), carray(pointer(y, storage), (n,)), factors, widen, kept, narrow)
        return
    buffer = address_of(stack_words(WIDEST_PIECE))
    for first in range(u64(0), n, PIECE):
        m = min(PIECE, n - first)
        y_array, results = carray(pointer(y + first * itemsize, storage), (m,)), carray(pointer(buffer, storage), (m,))
        keep(y_array, results, factors, widen, kept, narrow)
        copy(results, y_array)


@inlined
def drop(y: Any, value: Any) -> None:
    """Write what a dropped element becomes to all of y."""
    for i in range(u64(y.size)):
        y[i] = value


@inlined
def cut(run: Any, length: Any, first: Any, end: Any) -> Any:
    """Return where a run begins, and how long it is, within a range of elements."""
    here = max(run * length, first)
    return here, min((run + u64(1)) * length, end) - here


def kernel(formula: Formula, dtype: str, element: Element) -> Any:
    """Compile the kernel that applies `formula` to whole runs."""
    factors_of, kept, dropped = formula.factors, formula.kept, formula.dropped
    storage, compute, widen, narrow = element
    itemsize = u64(np.dtype(storage).itemsize)

    def runs(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, seed, offset, p, length = arguments[2], arguments[4], arguments[5], arguments[6], arguments[7]
        x_address, y_address = arguments[0] - start * itemsize, arguments[1] - start * itemsize  # of element 0
        p32 = u64(np.rint(float64_from_bits(p) * 2.0**32))
        factors = factors_of(float64_from_bits(p), compute)
        fill_value = narrow(dropped(compute(0), factors))
        words = stack_words(WORDS_PER_PIECE)
        draws = carray(pointer(address_of(words), np.uint16), (PIECE,))
        kept_runs, dropped_runs = stack_words(PIECE_OF_RUNS), stack_words(PIECE_OF_RUNS)
        together = max(u64(1), GROUP // (length * itemsize))
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + arguments[3])
        while first < end:
            run = first // length
            count = min(PIECE - run % PIECE, (end - u64(1)) // length + u64(1) - run)
            threshold = block_threshold(run // BLOCK, p32, seed, offset)
            limit = np.uint16(min(threshold, HIGHEST_DRAW))
            skipped = fill_piece(words, run, count, threshold, seed, offset)
            for group in range(u64(0), count, together):
                runs_of_group, number_kept = min(together, count - group), u64(0)
                for i in range(group, group + runs_of_group):
                    kept_runs[number_kept], dropped_runs[i - group - number_kept] = run + i, run + i
                    number_kept += u64(draws[skipped + i] >= limit)
                for i in range(number_kept):
                    here, n = cut(kept_runs[i], length, first, end)
                    place = here * itemsize
                    apply(storage, itemsize, x_address + place, y_address + place, n, factors, widen, kept, narrow)
                for i in range(runs_of_group - number_kept):
                    here, n = cut(dropped_runs[i], length, first, end)
                    drop(carray(pointer(y_address + here * itemsize, storage), (n,)), fill_value)
            first = (run + count) * length

    return compile_callback(KERNEL, runs, f"runs_{formula.name}_{dtype}")
