"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.dropout import dropout
from fastdrop.functional.mask import dropout_mask

__all__ = ["dropout", "dropout_mask"]
