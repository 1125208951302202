"""Dropouts as modules, those of torch.nn drop-ins for it."""

from fastdrop.modules.connect import DropConnect
from fastdrop.modules.dropout import Dropout
from fastdrop.modules.embedding import EmbeddingDropout
from fastdrop.modules.words import WordDropout

__all__ = ["DropConnect", "Dropout", "EmbeddingDropout", "WordDropout"]
