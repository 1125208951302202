"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.alpha import alpha_dropout, feature_alpha_dropout
from fastdrop.functional.channels import dropout1d, dropout2d, dropout3d
from fastdrop.functional.dropout import dropout
from fastdrop.functional.gaussian import gaussian_dropout, gaussian_noise
from fastdrop.functional.mask import dropout_mask

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_mask",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "gaussian_noise",
]
