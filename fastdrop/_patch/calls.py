"""Dropout calls as they are counted: what is seen of one while it runs, and the totals that it is added to."""

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch

from fastdrop._keys.key import NoiseShape
from fastdrop._ops import modes
from fastdrop._ops.native import bytes_kept
from fastdrop_kernels.locks import held_by_forks

NOT_NEEDED: Final = "none"
TORCH: Final = "torch"
TORCH_SAME_MASK: Final = "torch, same mask"
OPERATOR: Final = "graph operator"

Totals = dict[tuple[str, str, str], tuple[int, int, int]]  # function, by whom, why -> calls, elements, bytes not kept

lock: Final = held_by_forks(threading.RLock())
counts: Final[list[Totals]] = []  # of each block that is open
_thread: Final = threading.local()


class Seen:
    """What was seen of the dropout call that a thread is in: who computed last, and the last unusual answer."""

    computed_by = ""
    reason = ""


class Given(NamedTuple):
    """What a dropout call was given."""

    function: str
    x: Any
    p: float
    training: bool
    formula: str = ""  # "": of whose mask nothing is known to be kept
    noise_shape: NoiseShape = None


def current() -> Seen | None:
    """Return what was seen of this thread's call until now; None where it is in none that is counted."""
    return getattr(_thread, "seen", None)


def count(given: Given, run: Callable[[], Any], why_torch: Callable[[], str] = str) -> Any:
    """Return what a dropout call returns, and count it, unless it is part of another, computes nothing or fails.

    In a graph that is being recorded nothing is computed: its operators are counted when they run.
    """
    if current() is not None:
        return run()
    seen = _thread.seen = Seen()
    try:
        result = run()
    finally:
        _thread.seen = None
    if not modes.in_graph_tracing():
        computed_by, reason = seen.computed_by, seen.reason
        if not computed_by and (nothing := _why_nothing(given)):
            computed_by, reason = NOT_NEEDED, nothing
        elif not computed_by:
            computed_by, reason = TORCH, reason or why_torch()
        elif computed_by == TORCH_SAME_MASK and not reason:
            reason = "no kernel applies this mask"
        add(given.function, computed_by, reason, given.x.numel(), _bytes_not_kept(given, computed_by, result))
    return result


def add(function: str, computed_by: str, reason: str, elements: int, bytes_not_kept: int = 0) -> None:
    """Add a call to the totals of all open blocks."""
    key = function, computed_by, reason
    with lock:
        for totals in counts:
            calls, elements_before, bytes_before = totals.get(key, (0, 0, 0))
            totals[key] = calls + 1, elements_before + elements, bytes_before + bytes_not_kept


def _why_nothing(given: Given) -> str:
    """Return why there was nothing to compute, where nothing was computed."""
    if not given.training:
        return "eval mode"
    if given.p == 0:
        return "p = 0"
    return "" if given.x.numel() else "no elements"


def _bytes_not_kept(given: Given, computed_by: str, result: torch.Tensor) -> int:
    """Return what torch would have kept of a call, if there is to be a backward for which fastdrop keeps nothing."""
    if computed_by in (NOT_NEEDED, TORCH) or not given.formula or not result.requires_grad:
        return 0
    if computed_by == TORCH_SAME_MASK and modes.in_transform():
        return 0  # there autograd may see torch's operators
    return bytes_kept(given.formula, given.x, given.noise_shape)
