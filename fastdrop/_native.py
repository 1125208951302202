"""What the kernels do not take, and what happens to it: native torch, right everywhere, if slower."""

from typing import Final

import numpy as np
import torch
from torch._C import _get_tracing_state, _len_torch_dispatch_stack
from torch.nn.functional import dropout as native_dropout

from fastdrop import _cpu, _seeds
from fastdrop._cpu import FLOATS

STRIDED: Final = torch.strided
PLAIN: Final = frozenset({torch.Tensor, torch.nn.Parameter})


def kernels_take(x: torch.Tensor) -> bool:
    """Return whether x is a dense CPU tensor of a dtype we have, and nobody watches its operators."""
    return (
        x.dtype in FLOATS
        and x.is_cpu
        and type(x) in PLAIN
        and x.layout is STRIDED
        and not x.is_nested
        and not _len_torch_dispatch_stack()  # a mode would not see what a kernel does
        and _get_tracing_state() is None  # nor would a trace
    )


def dropout(
    x: torch.Tensor,
    p: float,
    inplace: bool,
    seed: int | torch.Tensor | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return native dropout; with a seed or a generator, their mask of the stream, applied by torch's operators."""
    if (seed is None and generator is None) or not (x.is_floating_point() or x.is_complex()):
        return native_dropout(x, p, True, inplace)  # integers: no mask to speak of, or torch's error
    key = _seeds.draw(generator) if seed is None else int(seed)
    keep = torch.from_numpy(np.empty(x.shape, np.bool_))  # made unseen: for a trace or a mode, the mask is a constant
    _cpu.run("mask", keep, keep, p, key, offset)
    one = np.float64(1) if x.dtype in (torch.float64, torch.complex128) else np.float32(1)
    scale = float(one / one.dtype.type(1 - p)) if p < 1 else 0.0
    y = torch.where(keep.to(x.device), x * scale, 0)
    return x.copy_(y) if inplace else y
