"""The form of an operation, from which each device makes its kernels."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Formula(NamedTuple):
    """What an operation computes of one element, in the compute type (float32, or float64 for float64).

    Plain functions of module level: each device compiles them its own way, and `factors` runs in Python too.
    """

    name: str
    derivative: str  # name of the formula that makes gradients and tangents of it, linear in its element
    factors: Callable[[Any, Any], Any]  # (p, compute class) -> (scale, shift, fill), once a call
    kept: Callable[[Any, Any], Any]  # (value, factors) -> result where the element is kept
    dropped: Callable[[Any, Any], Any]  # (value, factors) -> result where it is dropped
