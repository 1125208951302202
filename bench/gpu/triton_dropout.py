"""A baseline that keeps nothing either: the low-memory dropout of Triton's tutorial, with a backward.

One random number an element from `tl.rand`, from a seed that the backward gets too.
"""

import random
from typing import Any, Final

import torch
import triton
import triton.language as tl

BLOCK: Final = 1024


@triton.jit(do_not_specialize=["seed"])  # else a seed that 16 divides would compile anew, amid the measurement
def _dropout_kernel(x_ptr, y_ptr, n, p, scale, seed, BLOCK: tl.constexpr):
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = element < n
    x = tl.load(x_ptr + element, mask=inside).to(tl.float32)
    keep = tl.rand(seed, element) >= p
    tl.store(y_ptr + element, tl.where(keep, x * scale, 0.0), mask=inside)


def _run(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    y = torch.empty_like(x)
    _dropout_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), p, 1 / (1 - p), seed, BLOCK=BLOCK)
    return y


class TritonDropoutFunction(torch.autograd.Function):
    """y = x / (1 - p) where the element is kept, else 0, and the same of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
        """Return the dropout of x."""
        ctx.key = p, seed
        return _run(x, p, seed)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return _run(grad_output, *ctx.key), None, None


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the dropout of a contiguous x, with 0 <= p < 1."""
    seed = random.getrandbits(31)  # the cheapest draw there is
    if x.requires_grad and torch.is_grad_enabled():
        return TritonDropoutFunction.apply(x, p, seed)
    return _run(x, p, seed)
