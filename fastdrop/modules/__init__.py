"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.dropout import Dropout

__all__ = ["Dropout"]
