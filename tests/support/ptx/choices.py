"""Comparisons, and choices by what they found."""

from typing import Any, Final

import numpy as np

from ptx.floats import flushed
from ptx.formats import Array, plain
from ptx.operation import Operation, Table

INTEGER: Final[dict[str, Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
FLOAT: Final[dict[str, Any]] = {  # those that end in u hold for every NaN, the others for none
    "eq": np.equal,
    "ne": lambda a, b: (a < b) | (a > b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "num": lambda a, b: (a == a) & (b == b),
    "equ": lambda a, b: ~((a < b) | (a > b)),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "nan": lambda a, b: (a != a) | (b != b),
}
COMBINE: Final = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def compare(holds: Any, combine: str | None, type: str) -> Operation:
    """Return a comparison and its opposite, each combined with a third operand if the instruction has one."""

    def both(a: Array, b: Array, *condition: Array) -> tuple[Array, ...]:
        found = holds(a, b)
        results = (found, ~found)
        return tuple(COMBINE[combine](each, *condition) for each in results) if combine else results

    return Operation(("pred", "pred"), (type, type, "pred") if combine else (type, type), both)


def choose(type: str) -> Operation:
    """Return the choice of the first operand where the third is true, and of the second where it is not."""
    bits = plain(type)
    return Operation((bits,), (bits, bits, "pred"), lambda a, b, condition: np.where(condition, a, b))


OPERATIONS: Final[Table] = {
    rf"setp\.({'|'.join(INTEGER)})(?:\.(and|or|xor))?\.([bsu](?:16|32|64))": lambda name, combine, type: compare(
        INTEGER[name], combine, type
    ),
    rf"setp\.({'|'.join(FLOAT)})(?:\.(and|or|xor))?(\.ftz)?\.(f16|f32|f64)": lambda name, combine, ftz, type: compare(
        flushed(ftz, FLOAT[name]), combine, type
    ),
    r"selp\.([bsuf](?:16|32|64))": choose,
}
