"""A stand-in for libcuda.so.1: what loads and launches CUDA kernels runs with it on a machine without a GPU."""

from standin.driver import GPUS, Driver, Gpu, Launch
from standin.library import build, load, real_driver_present

__all__ = ["GPUS", "Driver", "Gpu", "Launch", "build", "load", "real_driver_present"]
