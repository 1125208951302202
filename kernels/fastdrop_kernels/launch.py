"""What a kernel is called with, on either device: one value, made once and handed on as it is."""

from typing import Final

Launch = tuple[int, int, int, int, int, int, int, int, int, float, int, int]
"""The arguments of a kernel, in the order of the indices below. All that do not concern a kernel are 0."""

X: Final = 0  # address of the first element; equal to Y to work in place
Y: Final = 1  # address of the first result
SECOND: Final = 2  # address of a second tensor that is read: a mask's bytes
THIRD: Final = 3  # address of a third one
START: Final = 4  # index in the mask stream of the first element
COUNT: Final = 5  # elements
SEED: Final = 6  # 64 bits, as a signed integer
SEED_ADDRESS: Final = 7  # where in a GPU's memory the seed is when the kernel runs, if it is not SEED
OFFSET: Final = 8  # 64 bits, as a signed integer
PARAMETER: Final = 9  # what the formula makes its factors of: p, a standard deviation, a scale
REPEAT: Final = 10  # how a mask is broadcast: how often a row of draws is used in turn,
INNER: Final = 11  # and how long it is
