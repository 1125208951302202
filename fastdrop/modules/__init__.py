"""Dropouts as modules; those under the names of torch.nn are drop-in replacements."""

from fastdrop.modules.alpha import AlphaDropout, FeatureAlphaDropout
from fastdrop.modules.blocks import DropBlock2d, DropBlock3d
from fastdrop.modules.channels import Dropout1d, Dropout2d, Dropout3d
from fastdrop.modules.connect import DropConnect
from fastdrop.modules.dropout import Dropout
from fastdrop.modules.embedding import EmbeddingDropout
from fastdrop.modules.gaussian import GaussianDropout, GaussianNoise
from fastdrop.modules.paths import DropPath, StochasticDepth
from fastdrop.modules.residual import DropoutAdd
from fastdrop.modules.spatial import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from fastdrop.modules.variational import LockedDropout, VariationalDropout
from fastdrop.modules.words import WordDropout

__all__ = [
    "AlphaDropout",
    "DropBlock2d",
    "DropBlock3d",
    "DropConnect",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "DropoutAdd",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "LockedDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "StochasticDepth",
    "VariationalDropout",
    "WordDropout",
]
