"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.blocks import drop_block2d, drop_block3d
from fastdrop.functional.dropout import dropout
from fastdrop.functional.mask import dropout_mask
from fastdrop.functional.paths import drop_path, stochastic_depth
from fastdrop.functional.variational import variational_dropout

__all__ = [
    "drop_block2d",
    "drop_block3d",
    "drop_path",
    "dropout",
    "dropout_mask",
    "stochastic_depth",
    "variational_dropout",
]
