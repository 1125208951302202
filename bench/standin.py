"""The tests' stand-in for the CUDA driver, which is not installed with fastdrop, for benchmarks in a checkout."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

from fake_torch_cuda import STREAM, cpu_as_gpu, torch_cuda  # noqa: E402
from standin import Driver, build, load, real_driver_present  # noqa: E402

__all__ = ["STREAM", "Driver", "build", "cpu_as_gpu", "load", "real_driver_present", "torch_cuda"]
