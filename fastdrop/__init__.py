"""Dropout for PyTorch at the speed of a copy: nothing kept, the same mask on every device and thread count."""

from fastdrop import functional
from fastdrop._version import __version__
from fastdrop._warmup import warmup
from fastdrop.functional import dropout_mask
from fastdrop.modules import Dropout

__all__ = ["Dropout", "__version__", "dropout_mask", "functional", "warmup"]
