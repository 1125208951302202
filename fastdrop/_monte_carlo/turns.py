"""Whose turn it is to draw from torch's generators: what sets them has them to itself, all others share them."""

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["turn"]

_changed = threading.Condition()
_sharing = 0  # threads that draw
_alone = False  # whether one has set the generators
_own = threading.local()  # alone: whether the thread's own turn is that one; no attribute without a turn


@contextlib.contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Wait until no other thread has set the generators; alone: until none draws, and keep all others waiting.

    A turn within a turn of the same thread does not wait for it.
    """
    outer: bool | None = getattr(_own, "alone", None)
    if outer or outer is alone:
        yield
        return
    if outer is not None:  # two that wait for each other's shares would wait for ever; who waits does not draw
        _give()
    try:
        _take(alone)
        try:
            yield
        finally:
            _give()
    finally:
        if outer is not None:
            _take(outer)


def _take(alone: bool) -> None:
    global _alone, _sharing
    with _changed:
        _changed.wait_for(lambda: not _alone and not (alone and _sharing))
        _alone, _sharing = alone, _sharing + (not alone)
        _own.alone = alone


def _give() -> None:
    global _alone, _sharing
    with _changed:
        _alone, _sharing = False, _sharing - (not _own.alone)
        del _own.alone
        _changed.notify_all()


def _renew() -> None:
    """Give a forked child a lock that no thread holds, and the turn of its only thread, if that has one."""
    global _changed, _alone, _sharing
    _changed = threading.Condition()
    own: bool | None = getattr(_own, "alone", None)
    _alone, _sharing = own is True, int(own is False)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)
