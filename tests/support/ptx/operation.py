"""What an instruction computes of a thread's operands, as a function of arrays with one number for each thread."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Compute: TypeAlias = Callable[..., Any]
"""Arrays in, an array out, or one for each result."""


class Operation(NamedTuple):
    """An instruction whose result in a thread depends on that thread's operands alone."""

    results: tuple[str, ...]  # types
    sources: tuple[str, ...]  # types
    compute: Compute


Table: TypeAlias = dict[str, Callable[..., Operation]]
"""A pattern that matches whole opcodes -> the operation, made from the pattern's groups."""


def uniform(type: str, operands: int, compute: Compute) -> Operation:
    """Return an operation with one type for all its operands and its result."""
    return Operation((type,), (type,) * operands, compute)
