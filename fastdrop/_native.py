"""What the kernels do not take, and what happens to it: native torch, right everywhere, if slower."""

from typing import Final

import torch
from torch._C import (
    _are_functorch_transforms_active,
    _get_dispatch_mode,
    _get_tracing_state,
    _TorchDispatchModeKey,
)
from torch.nn.functional import dropout as native_dropout
from torch.utils._python_dispatch import _disable_current_modes

from fastdrop import _autograd, _operators, _seeds
from fastdrop._backend import Seed, has_kernel
from fastdrop._layout import order_of

GRAPH_MODES: Final = (_TorchDispatchModeKey.PROXY, _TorchDispatchModeKey.FAKE, _TorchDispatchModeKey.FUNCTIONAL)


def is_graphed() -> bool:
    """Return whether operators are recorded in a graph, by compilation, export or make_fx, or run on fake tensors."""
    return any(_get_dispatch_mode(key) is not None for key in GRAPH_MODES)


def dropout(
    x: torch.Tensor,
    p: float,
    inplace: bool,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return native dropout; where there is a key, or only a mode that watches, this stream's by torch's operators."""
    if is_graphed():
        return _operators.dropout(x, p, inplace, seed, offset, generator)
    keyed = seed is not None or generator is not None
    if not keyed and (_get_tracing_state() is not None or not has_kernel(x)):
        return native_dropout(x, p, True, inplace)
    if not (x.is_floating_point() or x.is_complex()):
        return native_dropout(x, p, True, inplace)  # integers: no mask to speak of, or torch's error
    if x.is_nested or x.layout is not torch.strided:
        kind = "a nested tensor" if x.is_nested else x.layout
        raise RuntimeError(f"dropout with a seed or a generator needs a strided tensor, but got {kind}")
    if _are_functorch_transforms_active() and not torch._is_functional_tensor(x):
        key = _seeds.draw_tensor(generator, x) if seed is None else seed
        y = _autograd.dropout(x, (p, key, offset, order_of(x)))
    else:
        with _disable_current_modes():  # a checkpoint's second run may be watched where its first was not
            key = _seeds.of(x, seed, generator)
        y = _autograd.composite_dropout(x, (p, key, offset, order_of(x)))
    return x.copy_(y) if inplace else y
