"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.dropout import Dropout
from fastdrop.modules.paths import DropPath, StochasticDepth
from fastdrop.modules.variational import LockedDropout, VariationalDropout

__all__ = ["DropPath", "Dropout", "LockedDropout", "StochasticDepth", "VariationalDropout"]
