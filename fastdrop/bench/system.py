"""What figures depend on besides the code: the CPU, the versions, the threads."""

import pathlib
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import llvmlite
import numba
import numpy
import torch

from fastdrop._devices import threads
from fastdrop._version import __version__


def _linux_cpu_name() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _mac_cpu_name() -> str:
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def cpu_name() -> str:
    """Return the CPU's name as its maker writes it, or what comes nearest."""
    ask = {"Linux": _linux_cpu_name, "Darwin": _mac_cpu_name}.get(platform.system(), platform.processor)
    try:
        name = ask()
    except OSError:
        name = ""
    return name or platform.processor() or platform.machine()  # Linux on ARM has no model name


def versions() -> dict[str, str]:
    """Return the versions of fastdrop and of what it runs on."""
    return {
        "fastdrop": __version__,
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": numpy.__version__,
    }


def cuda_versions() -> dict[str, str]:
    """Return the versions of what the CUDA kernels are compiled and launched by, "missing" where it is not there."""
    found = {}
    for name in ("numba-cuda", "cuda-core", "cuda-bindings"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def describe() -> dict[str, str]:
    """Return the CPU, the thread backend and all versions."""
    return {"CPU": cpu_name(), "thread backend": threads.backend(), **versions()}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Have torch, and so fastdrop, use `count` threads inside; the number from before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
