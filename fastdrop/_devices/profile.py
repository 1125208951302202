"""The kernels in torch's profiler, under their names: "fastdrop::dropout_kernel", say.

Torch names what its dispatcher calls. A kernel is called past that, so it names itself; whoever runs one asks
`torch.autograd.profiler._is_profiler_enabled` first, which takes ten nanoseconds where no one looks.
"""

from typing import Any

from torch._C._profiler import _RecordFunctionFast


def begin(name: str) -> Any:
    """Begin an event of a kernel's name: `__exit__` ends it, or, where the kernel raises, the end of its frame."""
    event = _RecordFunctionFast(f"fastdrop::{name}_kernel")
    event.__enter__()
    return event
