"""cuda.core, NVIDIA's Python interface to the driver: `from fastdrop_kernels.cuda.core import core`."""

import importlib
from typing import Any, Final


def _find() -> Any:
    module = importlib.import_module("cuda.core")
    # Up to version 0.4 all of it was in a module of its own.
    return module if hasattr(module, "launch") else importlib.import_module("cuda.core.experimental")


core: Final = _find()
