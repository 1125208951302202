"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.dropout import Dropout
from fastdrop.modules.gaussian import GaussianDropout, GaussianNoise

__all__ = ["Dropout", "GaussianDropout", "GaussianNoise"]
