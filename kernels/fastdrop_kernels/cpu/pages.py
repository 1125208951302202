"""Huge pages for fresh large buffers.

A buffer that malloc has just mapped is faulted in at its first write, 4 KiB at a time, which costs several times as
much as a dropout's arithmetic. Linux takes a hint for 2 MiB pages (madvise); elsewhere there is nothing to do.
"""

import ctypes
import mmap
import sys
from typing import Any, Final

# Bytes: twice a huge page, so that one lies inside. malloc may give memory used before, for which the hint costs a
# microsecond; but a training step frees much at once, malloc returns it to the system, and all is faulted in again.
HUGE_FROM: Final = 4 << 20
_PAGE: Final = mmap.PAGESIZE


def _madvise() -> Any:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return function


_advise: Final = _madvise()


def prefer_huge_pages(address: int, size: int) -> bool:
    """Request huge pages for the whole pages within ``size`` bytes at ``address``; return whether the system agreed."""
    first, last = -(-address // _PAGE) * _PAGE, (address + size) // _PAGE * _PAGE
    if _advise is None or last <= first:
        return False
    return bool(_advise(first, last - first, mmap.MADV_HUGEPAGE) == 0)
