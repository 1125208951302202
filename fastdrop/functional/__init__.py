"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.dropout import dropout
from fastdrop.functional.gaussian import gaussian_dropout, gaussian_noise
from fastdrop.functional.mask import dropout_mask

__all__ = ["dropout", "dropout_mask", "gaussian_dropout", "gaussian_noise"]
