"""One normal number for each element: y = f(x, z).

A tile takes two Philox counters, one for each half: where lanes are paired, each makes the numbers of the halves that
it has loaded, and nothing is exchanged.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fastdrop_kernels import stream
from fastdrop_kernels.cuda import grid
from fastdrop_kernels.cuda.compiler import inlined
from fastdrop_kernels.cuda.dtypes import DTypeTraits
from fastdrop_kernels.cuda.intrinsics import load, store
from fastdrop_kernels.cuda.philox import philox4x32
from fastdrop_kernels.formulas import NormalFormula
from fastdrop_kernels.normal import logarithm, normal, tail_of

u64 = np.uint64
NORMALS_PER_COUNTER: Final = u64(stream.NORMALS_PER_COUNTER)
ANY_P32: Final = 2**64 - 1  # there is no threshold

tail_in, logarithm_of, normal_of = inlined(tail_of), inlined(logarithm), inlined(normal)


@inlined
def word(e: Any, seed: Any, offset: Any) -> Any:
    """Return the random word of element e."""
    words = philox4x32(e // NORMALS_PER_COUNTER, seed, offset)
    even, odd = (words[2], words[3]) if e & u64(2) else (words[0], words[1])
    return odd if e & u64(1) else even


def kernel(formula: NormalFormula, traits: DTypeTraits) -> Callable[..., None]:
    """Return the kernel, to be compiled, that applies `formula` with one normal number for each element."""
    noised, halves = inlined(formula.noised), traits.halves
    storage, load_tile, widen, store_tile, narrow = (
        traits.storage, traits.load, traits.widen, traits.store, traits.narrow,
    )  # fmt: skip
    itemsize, tile_size = u64(np.dtype(storage).itemsize), u64(traits.tile)

    @inlined
    def result(value: Any, word: Any, factors: Any) -> Any:
        upper, tail, y = tail_in(word)
        return noised(value, normal_of(upper, tail, y, logarithm_of(y)), factors)

    @inlined
    def of_tile(x: Any, y: Any, second: Any, tile: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        one, other = halves(tile)
        v, (a, b, c, d) = load_tile(x + tile * (tile_size * itemsize)), philox4x32(one, key[0], key[1])
        first = (
            result(v[0], a, factors), result(v[1], b, factors), result(v[2], c, factors), result(v[3], d, factors)
        )  # fmt: skip
        a, b, c, d = philox4x32(other, key[0], key[1])
        second = (
            result(v[4], a, factors), result(v[5], b, factors), result(v[6], c, factors), result(v[7], d, factors)
        )  # fmt: skip
        store_tile(y + tile * (tile_size * itemsize), first + second)

    @inlined
    def of_element(x: Any, y: Any, second: Any, e: Any, key: Any, factors: Any, repeat: Any, inner: Any) -> None:
        value = widen(load(x + e * itemsize, storage))
        store(y + e * itemsize, narrow(result(value, word(e, key[0], key[1]), factors)))

    return grid.kernel(traits, ANY_P32, of_tile, of_element)
