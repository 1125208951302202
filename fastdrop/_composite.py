"""Dropout by torch's own operators, with a mask of the stream: for all that a kernel cannot take by its address.

Other devices, complex numbers, traces, dispatch modes, batches of torch's older vmap. Where autograd looks inside, as
under torch.func, it keeps the mask.
"""

import numpy as np
import torch
from torch._C import _get_tracing_state, _len_torch_dispatch_stack

from fastdrop._backend import mask
from fastdrop._layout import Key
from fastdrop_kernels.formulas.dropout import scale


def is_watched() -> bool:
    """Return whether a dispatch mode or a trace follows operators, and would not see what a kernel does."""
    return bool(_len_torch_dispatch_stack()) or _get_tracing_state() is not None


def dropout(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return the dropout of x."""
    p, seed, offset, order = key
    keep = mask(x.shape, p, seed, offset, strides=order, device=x.device)
    compute = np.float64 if x.dtype in (torch.float64, torch.complex128) else np.float32
    factor = float(scale(p, compute)) if p < 1 else 0.0
    return torch.where(keep, x * factor, 0)
