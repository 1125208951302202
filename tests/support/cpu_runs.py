"""CPU kernels by themselves, without torch's layers: lengths and starts around which their loops change."""

import numpy as np
from launches import launch_of

from fastdrop_kernels.cpu import launch
from fastdrop_kernels.cpu.registry import address

SIZES = (1, 2, 7, 8, 9, 63, 127, 128, 129, 1000, 1023, 1024, 1025, 3333)
STARTS = (0, 1, 5, 8, 127, 1000, 1023, 8 * 2**32 - 16, 2**40 + 5)
GUARD = 0xA5  # of memory that is not to be written to


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def run(name: str, dtype: str, x: np.ndarray, y: np.ndarray, start=0, seed=7, offset=0, p=0.1) -> None:
    key = signed(seed), signed(offset), p
    launch.run_serial(address(name, dtype), launch_of(x.ctypes.data, y.ctypes.data, start, x.size, *key))
