"""What `fastdrop inspect` and `fastdrop compile` share: architectures, and what to say where a package is missing."""

import argparse
import contextlib
from collections.abc import Iterator

from fastdrop_kernels.cuda.cubins import Capability, arch_of
from fastdrop_kernels.cuda.toolchain import ToolError, supported


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
