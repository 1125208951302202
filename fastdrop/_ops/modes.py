"""Who watches, traces, transforms, records or exports what is computed. What torch is asked of this, it is asked here.

What leaves this process, in programs that torch.export makes, in traces of torch.jit and so in ONNX, holds torch's own
operators: where it runs there may be no fastdrop, and what reads it (exporters, quantizers, passes that switch to eval)
knows torch's. Ours stays in it only for a key, which torch's operators do not take.
"""

from typing import Final

import torch
from torch._C import (
    DispatchKey,
    _are_functorch_transforms_active,
    _dispatch_tls_is_dispatch_key_included,
    _get_dispatch_mode,
    _get_tracing_state,
    _len_torch_dispatch_stack,
    _TorchDispatchModeKey,
)
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling
from torch.utils._python_dispatch import _disable_current_modes

from fastdrop._ops.dynamo_skip import assume_constant_result

GRAPH_MODES: Final = (_TorchDispatchModeKey.PROXY, _TorchDispatchModeKey.FAKE, _TorchDispatchModeKey.FUNCTIONAL)

dispatch_modes: Final = _len_torch_dispatch_stack  # how many dispatch modes follow operators
trace: Final = _get_tracing_state  # what torch.jit.trace keeps while it follows operators, else None
is_compiling: Final = is_dynamo_compiling  # whether Dynamo traces the code that asks; it knows the question
in_transform: Final = _are_functorch_transforms_active  # whether a transform of torch.func is active
is_legacy_batch: Final = is_legacy_batchedtensor  # whether torch's older vmap, that of is_grads_batched, made a tensor
unseen: Final = _disable_current_modes  # a context in which no dispatch mode sees what is done


def in_trace() -> bool:
    """Return whether torch.jit.trace follows operators."""
    return trace() is not None


def in_dispatch_mode() -> bool:
    """Return whether a dispatch mode follows operators."""
    return dispatch_modes() > 0


def in_dispatch_mode_or_trace() -> bool:
    """Return whether a dispatch mode or a trace follows operators, and would not see what a kernel does."""
    return dispatch_modes() > 0 or trace() is not None


def in_fake_mode() -> bool:
    """Return whether operators run on fake tensors."""
    return _get_dispatch_mode(_TorchDispatchModeKey.FAKE) is not None


def in_python_dispatcher() -> bool:
    """Return whether the dispatcher prefers kernels written in Python, as it does in compilation."""
    return _dispatch_tls_is_dispatch_key_included(DispatchKey.PythonDispatcher)


def in_graph_tracing() -> bool:
    """Return whether a mode records operators in a graph, as in compilation, export or make_fx, or tensors are fake."""
    return in_dispatch_mode_or_trace() and any(_get_dispatch_mode(key) is not None for key in GRAPH_MODES)


def in_graph() -> bool:
    """Return whether operators are recorded in a graph, by such a mode or by Dynamo."""
    return is_dynamo_compiling() or in_graph_tracing()


def is_exported() -> bool:
    """Return whether operators are recorded for elsewhere; a later lowering of an exported program counts too."""
    if is_dynamo_compiling():
        return bool(_is_exporting())
    if not in_dispatch_mode_or_trace():
        return False
    mode = _get_dispatch_mode(_TorchDispatchModeKey.FUNCTIONAL)
    return in_trace() or _is_exporting() or (mode is not None and mode.export)


@assume_constant_result  # some versions' Dynamo takes the question for a yes
def _is_exporting() -> bool:
    return torch.compiler.is_exporting()


def in_forward_ad() -> bool:
    """Return whether tangents may come with tensors."""
    return forward_ad._current_level >= 0


def is_recorded(x: torch.Tensor) -> bool:
    """Return whether a graph or a tangent has to know of an operation on x."""
    return (x.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def is_functional(x: torch.Tensor) -> bool:
    """Return whether x stands for a tensor that torch.func.functionalize never changes: it has no memory."""
    return torch._is_functional_tensor(x)


def is_zero(x: torch.Tensor) -> bool:
    """Return whether x is one of the zeros without memory that autograd's forward mode makes."""
    return x._is_zerotensor()
