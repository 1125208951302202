"""The form of an operation, from which each device makes its kernels."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

IDENTITY: Final = "identity"  # no formula: gradients and tangents pass unchanged


class Formula(NamedTuple):
    """What an operation computes of one element, in the compute type (float32, or float64 for float64).

    Plain module-level functions: each device compiles them, and `factors` is called in Python too. Its parameter is p,
    or what a formula has in place of it: a standard deviation.
    """

    name: str
    derivative: str  # name of the formula that makes gradients and tangents of it, linear in its element
    factors: Callable[[Any, Any], Any]  # (parameter, compute class) -> (scale, shift, fill), once a call
    kept: Callable[[Any, Any], Any]  # (value, factors) -> result where the element is kept
    dropped: Callable[[Any, Any], Any]  # (value, factors) -> result where it is dropped
    inputs: int = 1  # 2: value is a pair, of elements of two tensors, the first of which has the draws
    second_derivative: str = ""  # name of the formula that makes the second tensor's gradient


class NormalFormula(NamedTuple):
    """The same for an operation that adds noise or multiplies by it: every element has a standard normal number z."""

    name: str
    derivative: str  # as above, or IDENTITY
    factors: Callable[[Any, Any], Any]  # as above
    noised: Callable[[Any, Any, Any], Any]  # (value, z as float32, factors) -> result
    inputs: int = 1
