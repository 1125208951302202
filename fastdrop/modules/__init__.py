"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.blocks import DropBlock2d, DropBlock3d
from fastdrop.modules.dropout import Dropout
from fastdrop.modules.paths import DropPath, StochasticDepth
from fastdrop.modules.variational import LockedDropout, VariationalDropout

__all__ = [
    "DropBlock2d",
    "DropBlock3d",
    "DropPath",
    "Dropout",
    "LockedDropout",
    "StochasticDepth",
    "VariationalDropout",
]
