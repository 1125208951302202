"""Stateless dropouts, with the signatures of torch.nn.functional."""

from fastdrop.functional.connect import drop_connect
from fastdrop.functional.dropout import dropout
from fastdrop.functional.embedding import embedding_dropout
from fastdrop.functional.mask import dropout_mask
from fastdrop.functional.words import word_dropout

__all__ = ["drop_connect", "dropout", "dropout_mask", "embedding_dropout", "word_dropout"]
