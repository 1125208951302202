"""Dropout for PyTorch at the speed of a copy: nothing kept, the same mask on every device and thread count."""

from fastdrop import functional, modules
from fastdrop._monte_carlo.active import mc_dropout
from fastdrop._monte_carlo.predict import mc_predict
from fastdrop._patch.explain import explain
from fastdrop._patch.install import accelerated, install, is_installed, uninstall
from fastdrop._patch.replace import replace, restore
from fastdrop._version import __version__
from fastdrop._warmup import warmup
from fastdrop.functional import dropout_mask
from fastdrop.modules import *  # noqa: F403  # what its __all__ lists

__all__ = [
    "__version__",
    "accelerated",
    "dropout_mask",
    "explain",
    "functional",
    "install",
    "is_installed",
    "mc_dropout",
    "mc_predict",
    "replace",
    "restore",
    "uninstall",
    "warmup",
]
__all__ += modules.__all__
