"""What the machine code of every kernel has to be like, for architectures that nobody here needs to have."""

import functools
from typing import Final

from fastdrop_kernels.cuda.inspect import inspect

BITS: Final = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "bool": 8}
ACCESSES: Final = {"float16": (1, 1), "bfloat16": (1, 1), "float32": (2, 2), "float64": (4, 4), "bool": (0, 1)}
REGISTERS: Final = 64  # so that 1024 threads fit into a multiprocessor's 65536

report = functools.cache(inspect)
