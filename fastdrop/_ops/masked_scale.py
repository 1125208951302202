"""A mask from memory, applied: y = x * scale where kept, else +0; in one pass on the CPU, else by torch's operators.

Either way autograd keeps the mask, a byte an element, and the scale; never a tensor of x's dtype. `apply_rows` is below
autograd.
"""

from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from fastdrop._devices import kernels
from fastdrop._ops.autograd import is_for_kernel
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.layout import has_memory
from fastdrop._ops.modes import in_trace, in_transform, is_recorded


@dynamo_skip
class MaskedScaleFunction(torch.autograd.Function):
    """y = x * scale where kept, and the same of gradient and tangent."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, keep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return x, masked and scaled."""
        ctx.save_for_backward(keep, scale)
        ctx.save_for_forward(keep, scale)
        return _run(x, keep, scale)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return apply(grad_output, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        return apply(tangent, *ctx.saved_tensors)


def apply(x: torch.Tensor, keep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return x * scale where kept, else +0; dense strides are kept where a kernel does it."""
    if not takes(x):
        return decomposed(x, keep, scale)
    return MaskedScaleFunction.apply(x, _like(x, keep), scale) if is_recorded(x) else _run(x, keep, scale)  # type: ignore[no-untyped-call]


def decomposed(x: torch.Tensor, keep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the same by torch's operators."""
    if not in_trace():  # in a trace sizes are tensors, of which torch does not answer this question
        keep = keep.contiguous(memory_format=suggest_memory_format(x))  # else the result would not be channels_last
    factor = scale.reshape([1] * x.dim())  # one without dimensions would be rounded to x's dtype on a GPU
    return torch.where(keep, (x * factor).to(x.dtype), 0)


def takes(x: torch.Tensor) -> bool:
    """Return whether the kernel can read x, and nobody has to see it do so."""
    return not in_transform() and is_for_kernel(x) and x.is_cpu and not x.is_neg() and has_memory(x)


def _like(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the mask as dense as an output like x is."""
    like = torch.empty_like(x, dtype=torch.bool)
    return keep if keep.stride() == like.stride() else like.copy_(keep)


def apply_rows(x: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the same of an x that the kernel takes for a dense mask of its rows; autograd does not see it."""
    x = x.contiguous()
    y = torch.empty_like(x)
    kernels.masked_scale(x, keep, y, scale, row=x.shape[-1])
    return y


def _run(x: torch.Tensor, keep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    source = x if x.stride() == y.stride() else y.copy_(x)
    kernels.masked_scale(source, _like(y, keep), y, scale.item())
    return y
