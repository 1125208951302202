"""The version of fastdrop and of its kernels."""

__version__ = "0.1.0"
