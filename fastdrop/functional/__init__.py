"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.alpha import alpha_dropout, feature_alpha_dropout
from fastdrop.functional.blocks import drop_block2d, drop_block3d
from fastdrop.functional.channels import dropout1d, dropout2d, dropout3d
from fastdrop.functional.connect import drop_connect
from fastdrop.functional.elements import dropout
from fastdrop.functional.embedding import embedding_dropout
from fastdrop.functional.gaussian import gaussian_dropout, gaussian_noise
from fastdrop.functional.mask import dropout_mask
from fastdrop.functional.paths import drop_path, stochastic_depth
from fastdrop.functional.residual import dropout_add
from fastdrop.functional.variational import variational_dropout
from fastdrop.functional.words import word_dropout

__all__ = [
    "alpha_dropout",
    "drop_block2d",
    "drop_block3d",
    "drop_connect",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "dropout_mask",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "gaussian_noise",
    "stochastic_depth",
    "variational_dropout",
    "word_dropout",
]
