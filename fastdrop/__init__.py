"""Dropout for PyTorch at the speed of a copy: nothing kept, the same mask on every device and thread count."""

from fastdrop import functional
from fastdrop._install import accelerated, install, is_installed, uninstall
from fastdrop._replace import replace, restore
from fastdrop._version import __version__
from fastdrop._warmup import warmup
from fastdrop.functional import dropout_mask
from fastdrop.modules import (
    DropBlock2d,
    DropBlock3d,
    Dropout,
    DropPath,
    LockedDropout,
    StochasticDepth,
    VariationalDropout,
)

__all__ = [
    "DropBlock2d",
    "DropBlock3d",
    "DropPath",
    "Dropout",
    "LockedDropout",
    "StochasticDepth",
    "VariationalDropout",
    "__version__",
    "accelerated",
    "dropout_mask",
    "functional",
    "install",
    "is_installed",
    "replace",
    "restore",
    "uninstall",
    "warmup",
]
