"""Signal handlers at chosen places: called, or raising, before any one of the bytecodes that functions consist of."""

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any


class Interrupt(BaseException):
    """What a signal handler raises, as KeyboardInterrupt is."""


def codes(*functions: Any) -> set[CodeType]:
    """Return the code of functions and of all that is defined in them."""
    found = [getattr(function, "__wrapped__", function).__code__ for function in functions]
    for code in found:
        found += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(found)


def interrupted(call: Callable[[], Any], where: set[CodeType], handler: Callable[[], Any], place: int) -> bool:
    """Call, and the handler too, before bytecode `place` of those that are run in `where`; return whether it came."""
    left = place

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code not in where:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            left -= 1
            if left == -1:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left < 0


def everywhere(
    call: Callable[[], Any], where: set[CodeType], handler: Callable[[], Any], first: int = 0, step: int = 1
) -> Iterator[int]:
    """Interrupt a call at one bytecode after the other, and yield after each."""
    place = first
    while interrupted(call, where, handler, place):
        yield place
        place += step
