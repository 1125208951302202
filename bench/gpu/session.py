"""What a section of the run is given, and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from rich.table import Table

from bench.gpu.device import Device
from bench.gpu.timing import Deadline
from fastdrop.bench.run import Effort


@dataclass(frozen=True)
class Session:
    """What to measure, on what, how long."""

    device: Device
    dtypes: Sequence[torch.dtype]
    sizes: Sequence[int]
    effort: Effort
    deadline: Deadline  # of this section
    say: Callable[[str], None]  # shows what it is at; a line
    left_out: list[str] = field(default_factory=list)

    def begins(self, what: str) -> bool:
        """Return whether there is time for a measurement, which is shown; else it is noted as left out."""
        if self.deadline.passed():
            self.left_out.append(what)
            return False
        self.say(what)
        return True


class Outcome(NamedTuple):
    """What a section found."""

    data: dict[str, Any]  # for JSON
    tables: Sequence[Table] = ()
    fatal: str = ""  # why nothing after it makes sense


class Section(NamedTuple):
    """A part of the run."""

    name: str
    measure: Callable[[Session], Outcome]
    seconds: float  # after which it begins nothing new


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name without its package."""
    return str(dtype).removeprefix("torch.")


def short(size: int) -> str:
    """Return a number of elements in binary thousands where it is whole: 64M, 1K, 100003."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def reason(error: BaseException) -> str:
    """Return what an exception says, in a line; what it came of, too, for a failed capture hides the first cause."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said if cause is None else f"{said} <- {reason(cause)}"
