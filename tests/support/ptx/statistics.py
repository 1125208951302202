"""What a launch did, in the figures that decide how fast a GPU would do it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ptx.formats import Array

SECTOR: Final = 32  # bytes that memory and its caches move at least
WARP: Final = 32  # threads


@dataclass
class Sectors:
    """How many 32-byte sectors the requests of warps touched, and how few could have held their bytes.

    They are equal where neighbouring threads access neighbouring bytes. `touched` is the lower one where threads
    share bytes.
    """

    touched: int = 0
    ideal: int = 0

    def add(self, addresses: Array, warps: Array, size: int) -> None:
        """Count an access of `size` bytes a thread; `warps` are the numbers of the threads' warps, in order."""
        sectors = addresses // SECTOR
        same_warp = warps[1:] == warps[:-1]
        if ((sectors[1:] < sectors[:-1]) & same_warp).any():
            sectors = sectors[np.lexsort((sectors, warps))]
        self.touched += 1 + int(np.count_nonzero(~same_warp | (sectors[1:] != sectors[:-1])))
        self.ideal += int((-(-np.bincount(warps) * size // SECTOR)).sum())


@dataclass
class Statistics:
    """What a launch did."""

    opcodes: Counter[str] = field(default_factory=Counter)  # how many threads executed each instruction
    load: Sectors = field(default_factory=Sectors)
    store: Sectors = field(default_factory=Sectors)
