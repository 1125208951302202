"""A shared/exclusive lock on torch's generators: exclusive for calls that seed them, shared for all others."""

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["turn"]

_changed = threading.Condition()
_sharing = 0  # threads that draw
_alone = False  # whether one has set the generators
_own = threading.local()  # alone: whether the thread's turn is exclusive; no attribute without a turn


@contextlib.contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Take the lock, exclusively with `alone`, else shared.

    It is reentrant: a turn within a turn of the same thread does not wait for itself.
    """
    outer: bool | None = getattr(_own, "alone", None)
    if outer or outer is alone:
        yield
        return
    if outer is not None:  # two that wait for each other's shares would deadlock; a waiting thread does not draw
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
    """Give a forked child an unlocked lock, and the turn of its only thread, if it has one."""
    global _changed, _alone, _sharing
    _changed = threading.Condition()
    own: bool | None = getattr(_own, "alone", None)
    _alone, _sharing = own is True, int(own is False)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)
