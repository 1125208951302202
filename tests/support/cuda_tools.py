"""Skips tests where the tools that make and read GPU code are not installed."""

import pytest

from fastdrop_kernels.cuda import packages, toolchain


def missing() -> bool:
    try:
        return not (packages.cuda and packages.core and toolchain.find_nvdisasm())
    except (ImportError, toolchain.ToolError):
        return True


needs_tools = pytest.mark.skipif(missing(), reason='needs numba-cuda and nvdisasm: pip install "fastdrop[test]"')
