"""Who watches, traces or exports what is computed. What torch is asked of this, it is asked here.

What leaves this process, in programs that torch.export makes, in traces of torch.jit and so in ONNX, holds torch's own
operators: where it runs there may be no fastdrop, and what reads it (exporters, quantizers, passes that switch to eval)
knows torch's. Ours stays in it only for a key, which torch's operators do not take.
"""

from typing import Final

import torch
from torch._C import _get_dispatch_mode, _get_tracing_state, _len_torch_dispatch_stack, _TorchDispatchModeKey
from torch.compiler import assume_constant_result, is_dynamo_compiling

GRAPH_MODES: Final = (_TorchDispatchModeKey.PROXY, _TorchDispatchModeKey.FAKE, _TorchDispatchModeKey.FUNCTIONAL)


def in_dispatch_mode_or_trace() -> bool:
    """Return whether a dispatch mode or a trace follows operators, and would not see what a kernel does."""
    return bool(_len_torch_dispatch_stack()) or _get_tracing_state() is not None


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
    return _get_tracing_state() is not None or _is_exporting() or (mode is not None and mode.export)


@assume_constant_result  # type: ignore[untyped-decorator]  # some versions' Dynamo takes the question for a yes
def _is_exporting() -> bool:
    return torch.compiler.is_exporting()
