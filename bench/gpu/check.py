"""Section: the device's kernels against the CPU's, bit for bit; of a NaN only that it is one.

Every case does the same on the CPU and on the device. The memory around a kernel's
output is compared too, so that a stray write is found. If anything differs, later figures would be meaningless.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import torch

from bench.gpu.cases import Case, Side, cases
from bench.gpu.session import Outcome, Session, reason
from bench.tables import grid

INTEGERS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
ENOUGH: Final = 10  # cases that differ: more would say no more


class Failure(NamedTuple):
    """A case that differs."""

    case: str
    how: str


def _at_once(work: Callable[[], torch.Tensor]) -> torch.Tensor:
    return work()


def difference(found: torch.Tensor, wanted: torch.Tensor) -> str:
    """Return how a result differs from the one that is wanted, or nothing."""
    if (found.dtype, found.shape, found.stride()) != (wanted.dtype, wanted.shape, wanted.stride()):
        kinds = [f"{x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}" for x in (found, wanted)]
        return f"{kinds[0]}, not {kinds[1]}"
    bits, wanted_bits = (x.contiguous().view(INTEGERS[x.itemsize]) for x in (found, wanted))
    both_nan = (found != found) & (wanted != wanted)
    where = ((bits != wanted_bits) & ~both_nan).nonzero()
    if len(where) == 0:
        return ""
    first = tuple(where[0].tolist())
    return f"{len(where)} elements differ, at {first} {found[first].item()}, not {wanted[first].item()}"


def failure_of(case: Case, device: Side, cpu: Side) -> str:
    """Return how a case's result on the device differs from the CPU's, or nothing."""
    try:
        return difference(case.work(device).detach().cpu(), case.work(cpu).detach())
    except Exception as error:  # whatever a kernel says
        return reason(error)


def _results(session: Session) -> Iterator[tuple[Case, str]]:
    """Yield every case and how it differs."""
    device = Side(session.device.place, session.device.on_side_stream)
    cpu = Side(torch.device("cpu"), _at_once)
    for group, of_group in cases():
        if session.begins(group):
            for case in of_group:
                yield case, failure_of(case, device, cpu)


def section(session: Session) -> Outcome:
    """Compare all cases until too many differ."""
    failures: list[Failure] = []
    done = 0
    with warnings.catch_warnings():
        # That there are no kernels for the device, so that native torch takes their place, is a failure here.
        warnings.filterwarnings("error", message="fastdrop", category=RuntimeWarning)
        for case, how in _results(session):
            done += 1
            if how:
                failures.append(Failure(case.what, how))
            if len(failures) == ENOUGH:
                break
    found = {"cases": done, "failures": [failure._asdict() for failure in failures]}
    if failures:
        fatal = f"the device's results differ from the CPU's in {len(failures)} of {done} cases"
        return Outcome(found, [grid("what differs", ["case", "how"], failures, texts=2)], fatal)
    session.say(f"{done} cases, all equal bit for bit")
    return Outcome(found)
