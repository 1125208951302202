"""The loop with a normal number for each element: fill a small buffer with random words, transform, apply, repeat.

Arguments, pieces and prefetches are those of elementwise.py; but a counter serves four elements, not eight, and there
is no threshold that differs from block to block.
"""

from typing import Any, Final

import numpy as np
from numba import carray

from fastdrop_kernels import stream
from fastdrop_kernels.casts import float32_bits, float64_from_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, inlined
from fastdrop_kernels.cpu.dtypes import DTypeTraits
from fastdrop_kernels.cpu.elementwise import BLOCK, PIECE, PREFETCH_DISTANCE
from fastdrop_kernels.cpu.intrinsics import address_of, load, pointer, prefetch, stack_words, store
from fastdrop_kernels.cpu.philox import fill
from fastdrop_kernels.cpu.stores import LINE, use_nontemporal, write
from fastdrop_kernels.formulas import NormalFormula
from fastdrop_kernels.launch import COUNT, OFFSET, PARAMETER, SEED, START, X, Y
from fastdrop_kernels.normal import logarithm, normal, tail_of

u64 = np.uint64
WORDS_PER_PIECE: Final = 128 // 2  # uint64 words, two normals each
NORMALS_PER_COUNTER: Final = u64(stream.NORMALS_PER_COUNTER)

for function in (tail_of, logarithm, normal):
    inlined(function)


@inlined
def transform(words: Any, logarithms: Any) -> None:
    """Replace words by the bits of their normal numbers; `logarithms` is a workspace of the same length.

    In loops of their own, so that vectors are as wide as float32 allows, and in two of them: in one, a step would be a
    chain of twenty multiplications, and a CPU, which has no more than two steps in flight, would wait for its latency.
    """
    for i in range(u64(words.size)):
        logarithms[i] = logarithm(tail_of(words[i])[2])
    for i in range(u64(words.size)):
        upper, tail, y = tail_of(words[i])
        words[i] = float32_bits(normal(upper, tail, y, logarithms[i]))


@inlined
def noise(x: Any, y: Any, n: Any, first: Any, arguments: Any) -> None:
    """Write the formula's result of every x and its normal number to y."""
    normals, factors, widen, noised, narrow = arguments
    z = pointer(normals + first * u64(4), np.float32)
    for i in range(n):
        store(y, i, narrow(noised(widen(load(x, i)), load(z, i), factors)))


def kernel(formula: NormalFormula, dtype: str, traits: DTypeTraits) -> Any:
    """Compile the kernel that applies `formula` with one normal number for each element."""
    factors_of, noised = formula.factors, formula.noised
    storage, compute, widen, narrow = traits
    itemsize = u64(np.dtype(storage).itemsize)

    def pieces(arguments: Any, first_block: Any, last_block: Any) -> None:
        x_address, y_address, start, count = arguments[X], arguments[Y], arguments[START], arguments[COUNT]
        seed, offset = arguments[SEED], arguments[OFFSET]
        factors = factors_of(float64_from_bits(arguments[PARAMETER]), compute)
        buffer, workspace = stack_words(WORDS_PER_PIECE), stack_words(WORDS_PER_PIECE)
        words, logarithms = address_of(buffer), address_of(workspace)
        nontemporal = use_nontemporal(x_address, y_address, count * itemsize, start * itemsize)
        first, end = max(first_block * BLOCK, start), min(last_block * BLOCK, start + count)
        while first < end:
            n = min(PIECE - first % PIECE, end - first)
            x, y = x_address + (first - start) * itemsize, y_address + (first - start) * itemsize
            counter, skipped = first // NORMALS_PER_COUNTER, first % NORMALS_PER_COUNTER
            if n == PIECE:  # a constant count needs no remainder loops
                for line in range(PIECE * itemsize // LINE):
                    prefetch(x + PREFETCH_DISTANCE + line * LINE)
                fill(buffer, counter, PIECE // NORMALS_PER_COUNTER, seed, offset)
                transform(
                    carray(pointer(words, np.uint32), (PIECE,)), carray(pointer(logarithms, np.float32), (PIECE,))
                )
                write(noise, storage, itemsize, x, y, PIECE, nontemporal, (words, factors, widen, noised, narrow))
            else:
                fill(buffer, counter, (skipped + n + NORMALS_PER_COUNTER - u64(1)) // NORMALS_PER_COUNTER, seed, offset)
                those = carray(pointer(words, np.uint32), (skipped + n,))
                transform(those, carray(pointer(logarithms, np.float32), (skipped + n,)))
                these = words + skipped * u64(4), factors, widen, noised, narrow
                write(noise, storage, itemsize, x, y, n, nontemporal, these)
            first += n

    return compile_callback(KERNEL, pieces, f"{formula.name}_{dtype}")
