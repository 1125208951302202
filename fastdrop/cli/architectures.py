"""The GPU architectures of `--arch`."""

import argparse

from fastdrop_kernels.cuda.kernels import Capability, arch_of


def parse(text: str) -> list[Capability]:
    """Return the compute capabilities of architectures, separated by commas; "sm_90" is (9, 0)."""
    from fastdrop_kernels.cuda.toolchain import supported  # needs cuda-core

    known = {arch_of(capability): capability for capability in supported()}
    names = list(dict.fromkeys(text.split(",")))
    if not set(names) <= set(known):
        raise argparse.ArgumentTypeError(f"expected any of {', '.join(known)}, but got {text!r}")
    return [known[name] for name in names]
