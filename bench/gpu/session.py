"""What a section of the run gets, and what it returns."""

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
    say: Callable[[str], None]  # prints a line about what is measured now
    left_out: list[str] = field(default_factory=list)

    def begins(self, what: str) -> bool:
        """Return whether there is time for a measurement, which is printed; else record it as left out."""
        if self.deadline.passed():
            self.left_out.append(what)
            return False
        self.say(what)
        return True


class Outcome(NamedTuple):
    """What a section found."""

    data: dict[str, Any]  # for JSON
    tables: Sequence[Table] = ()
    fatal: str = ""  # why no later section would be meaningful


class Section(NamedTuple):
    """A part of the run."""

    name: str
    measure: Callable[[Session], Outcome]
    seconds: float  # after which it begins nothing new


def reason(error: BaseException) -> str:
    """Return an exception's text in a line, with its causes: a failed capture hides the first one."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said if cause is None else f"{said} <- {reason(cause)}"
