"""Independent reference of fastdrop's normal numbers, version 1 (see stream.py), and of the noise made of them.

Words are mask_reference's Philox, quantiles are Python's own (Wichura's AS 241, exact to float64's last digits).
"""

from statistics import NormalDist

import mask_reference
import numpy as np

quantile = np.frompyfunc(NormalDist().inv_cdf, 1, 1)


def words(index, seed, offset=0):
    """Return the 32-bit word of every element in `index` (any integer array)."""
    index = np.asarray(index, np.uint64)
    counter = index // np.uint64(4)
    counters = (counter & mask_reference.LOW32, counter >> np.uint64(32), offset & 0xFFFFFFFF, offset >> 32)
    return np.choose(
        (index % np.uint64(4)).astype(np.int64), mask_reference.philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32))
    )


def of_words(words):
    """Return the normal numbers of words, as float64; the division is exact."""
    return quantile((np.asarray(words, np.float64) + 0.5) / 2**32).astype(np.float64)


def normals(index, seed, offset=0):
    """Return the normal number of every element in `index`, as float64."""
    return of_words(words(index, seed, offset))


def noisy(name, x, p, z):
    """Return what an operation makes of x in float64, and the size of what it adds to x."""
    noise = x * np.sqrt(p / (1 - p)) * z if name == "gaussian_dropout" else p * z
    return x + noise, np.abs(noise)
