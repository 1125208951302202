"""The loop with a row of draws that several rows of elements share: time steps, channels of channels_last memory.

Memory is (outer, repeat, inner), and element (a, b, c) takes draw a * inner + c of the mask stream. The draws of a
block (of a row, if it is shorter) are made once and applied to many rows in turn: with pieces as short as
elementwise.py's, arrays larger than the cache took three times as long. The next input is prefetched, as in
elementwise.py: where rows are longer than a block, it is the same block of the next row. Rows are split where a range
of blocks begins or ends.
"""

from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.casts import float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback
from fastdrop_kernels.cpu.dtypes import DTypeTraits
from fastdrop_kernels.cpu.elementwise import (
    BLOCK,
    HIGHEST_DRAW,
    PIECE,
    PREFETCH_DISTANCE,
    block_threshold,
    choose,
    fill_piece,
    read_one,
)
from fastdrop_kernels.cpu.intrinsics import address_of, prefetch, stack_words
from fastdrop_kernels.cpu.stores import LINE, use_nontemporal, write
from fastdrop_kernels.formulas import Formula
from fastdrop_kernels.launch import COUNT, INNER, OFFSET, PARAMETER, REPEAT, SEED, START, X, Y

u64 = np.uint64
WORDS_PER_BLOCK: Final = stream.BLOCK // 4  # uint64 words of four 16-bit draws
ROWS_AT_ONCE: Final = u64(64)  # enough that a block's draws cost little, few enough to stay in the cache


def kernel(formula: Formula, dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel that applies `formula` with the same draws to several rows."""
    factors_of, kept, dropped = formula.factors, formula.kept, formula.dropped
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)

    def repeated_rows(arguments: Any, first_block: Any, last_block: Any) -> None:
        start, count, seed, offset = arguments[START], arguments[COUNT], arguments[SEED], arguments[OFFSET]
        repeat, inner, p = arguments[REPEAT], arguments[INNER], float64_from_bits(arguments[PARAMETER])
        x_address, y_address = arguments[X] - start * itemsize, arguments[Y] - start * itemsize  # of element 0
        p32 = u64(np.rint(p * 2.0**32))
        factors = factors_of(p, compute)
        reading, results = (read_one, u64(0), storage, itemsize), (factors, widen, kept, dropped, narrow)
        nontemporal = use_nontemporal(x_address, y_address, count * itemsize, inner * itemsize)
        words = stack_words(WORDS_PER_BLOCK)
        draws = address_of(words)
        distance = inner * itemsize if inner > BLOCK else max(inner * itemsize, PREFETCH_DISTANCE)
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        while first < end:
            row, column = first // inner, first % inner
            rows_at_once, last = u64(1), min(inner, column + end - first)
            if last - column == inner:
                rows_at_once = min(repeat - row % repeat, (end - first) // inner, ROWS_AT_ONCE)
            before, draw = column, row // repeat * inner + column
            while column < last:
                n = min(BLOCK - draw % BLOCK, last - column)
                threshold = block_threshold(draw // BLOCK, p32, seed, offset)
                limit = np.uint16(min(threshold, HIGHEST_DRAW))
                skipped = fill_piece(words, draw, n, threshold, seed, offset)
                left = n % PIECE
                for i in range(rows_at_once):
                    place = ((row + i) * inner + column) * itemsize
                    x, y = x_address + place, y_address + place
                    for piece in range(u64(0), n - left, PIECE):  # a constant count needs no remainder loops
                        source, target = x + piece * itemsize, y + piece * itemsize
                        for line in range(u64(0), PIECE * itemsize, LINE):
                            prefetch(source + distance + line)
                        these = draws + (skipped + piece) * u64(2), limit, reading, results
                        write(choose, storage, itemsize, source, target, PIECE, nontemporal, these)
                    if left:
                        x, y = x + (n - left) * itemsize, y + (n - left) * itemsize
                        for line in range(u64(0), left * itemsize, LINE):
                            prefetch(x + distance + line)
                        those = draws + (skipped + n - left) * u64(2), limit, reading, results
                        write(choose, storage, itemsize, x, y, left, nontemporal, those)
                column += n
                draw += n
            first += (rows_at_once - u64(1)) * inner + last - before

    return compile_callback(KERNEL, repeated_rows, f"repeated_rows_{formula.name}_{dtype}")
