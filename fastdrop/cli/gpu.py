"""What `fastdrop inspect` and `fastdrop compile` share: kernels' names, architectures, errors for missing packages."""

import argparse
import contextlib
import warnings
from collections.abc import Iterator
from typing import Final

from fastdrop_kernels.cuda.cubins import Capability, arch_of
from fastdrop_kernels.cuda.toolchain import ToolError, supported

RENAMED: Final = {"runs_": "segments_", "rows_": "repeated_rows_"}  # until the next version


def kernel_name(text: str) -> str:
    """Return a kernel's name, also where it is given as it was before."""
    for old, new in RENAMED.items():
        if text.startswith(old):
            name = new + text.removeprefix(old)
            warnings.warn(f"the kernel {text} is called {name} now", FutureWarning, stacklevel=2)
            return name
    return text


def capabilities(text: str, parser: argparse.ArgumentParser) -> list[Capability]:
    """Return the compute capabilities of architectures that are separated by commas: "sm_90" is (9, 0)."""
    known = {arch_of(capability): capability for capability in supported()}
    names = list(dict.fromkeys(text.split(",")))
    if not set(names) <= set(known):
        parser.error(f"argument --arch: expected any of {', '.join(known)}, but got {text!r}")
    return [known[name] for name in names]


@contextlib.contextmanager
def needing(extra: str, parser: argparse.ArgumentParser) -> Iterator[None]:
    """Exit with 2 and one line where the packages of an extra are missing or do not fit."""
    try:
        yield
    except (ImportError, ToolError) as error:
        parser.exit(2, f'{parser.prog} needs what pip install "fastdrop[{extra}]" brings: {error}\n')
