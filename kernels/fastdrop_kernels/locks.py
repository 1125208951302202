"""Locks that a fork acquires.

A forked child has only the thread that forked. A lock that another thread held would stay locked in it for ever, and
the state it guards half changed; so a fork waits until the lock is free.
"""

import os
from typing import Any, TypeVar

Lock = TypeVar("Lock", bound=Any)


def held_by_forks(lock: Lock) -> Lock:
    """Have each fork of this process acquire a reentrant lock, which must live as long; return the lock."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
