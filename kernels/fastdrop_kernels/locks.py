"""Locks that a fork waits for.

A forked child has only the thread that forked. A lock that another thread held would be held in it for ever, over state
that is half changed; so no fork happens meanwhile.
"""

import os
from typing import Any, TypeVar

Lock = TypeVar("Lock", bound=Any)


def held_by_forks(lock: Lock) -> Lock:
    """Have each fork of this process hold a reentrant lock, which is returned; it has to be one for good."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
