"""Runs compiled PTX on the CPU with NumPy, bit for bit and with every memory access checked."""

from ptx.interpreter import Kernel
from ptx.memory import AccessError, Memory, Touched
from ptx.statistics import Sectors, Statistics

__all__ = ["AccessError", "Kernel", "Memory", "Sectors", "Statistics", "Touched"]
