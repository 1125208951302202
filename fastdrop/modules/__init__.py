"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.alpha import AlphaDropout, FeatureAlphaDropout
from fastdrop.modules.channels import Dropout1d, Dropout2d, Dropout3d
from fastdrop.modules.dropout import Dropout
from fastdrop.modules.gaussian import GaussianDropout, GaussianNoise
from fastdrop.modules.spatial import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
