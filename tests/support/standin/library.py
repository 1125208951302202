"""Compile driver.c and load it in place of the CUDA driver."""

import ctypes
import functools
import subprocess
from pathlib import Path

SONAME = "libcuda.so.1"


def real_driver_present() -> bool:
    """Return whether this machine has a CUDA driver of its own; the stand-in stays away from it."""
    try:
        library = ctypes.CDLL(SONAME)
    except OSError:
        return False
    return not hasattr(library, "standin")


def build(folder: Path) -> Path:
    """Compile the stand-in with `cc` into a folder and return the file."""
    path = folder / SONAME
    source = Path(__file__).with_name("driver.c")
    command = ["cc", "-shared", "-fPIC", "-O2", f"-Wl,-soname,{SONAME}", "-o", str(path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


@functools.cache
def load(path: Path) -> ctypes.CDLL:
    """Load the stand-in for good: whoever in this process asks for libcuda.so.1 from now on gets it, by its soname."""
    if real_driver_present():
        raise RuntimeError("this process has a real CUDA driver")
    return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
