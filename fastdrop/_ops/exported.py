"""What leaves this process: programs that torch.export makes, traces of torch.jit, and so ONNX.

They hold torch's own operators: where they run there may be no fastdrop, and what reads them (exporters, quantizers,
passes that switch to eval) knows torch's. Ours stays in them only for a key, which torch's operators do not take.
"""

import torch
from torch._C import _get_dispatch_mode, _get_tracing_state, _TorchDispatchModeKey
from torch.compiler import assume_constant_result, is_dynamo_compiling

from fastdrop._ops.decompose import in_dispatch_mode_or_trace


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
