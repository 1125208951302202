"""Ops of two tensors, the first of which drops elements: one kernel for dropout and what follows it.

Where no kernel may run (in graphs, under transforms, modes and traces, on other devices) the same is composed of
dropout, by its own router, and torch's operator.
"""

from typing import Any

import torch

from fastdrop._devices.kernels import STRIDED, has_address, launch
from fastdrop._keys.arguments import check_key
from fastdrop._keys.key import CountingStrides, Key, Seed
from fastdrop._ops import autograd
from fastdrop._ops.dispatch import call
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.entries import entry
from fastdrop._ops.layout import copied_to_strides, counting_strides_of, has_strides
from fastdrop._ops.modes import in_forward_ad, in_trace, in_transform, is_recorded
from fastdrop._ops.resolve import resolve
from fastdrop._ops.variants import DROPOUT, JoinVariant
from fastdrop_kernels.formulas import FORMULAS, Formula


@dynamo_skip
class JoinFunction(torch.autograd.Function):
    """y = f(x, second) by a formula and a key; both gradients are formulas of the same key, and nothing is kept."""

    @staticmethod
    def forward(ctx: Any, name: str, x: torch.Tensor, second: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the formula's result."""
        ctx.formula, ctx.key = name, key
        return _compute(name, x, second, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of both tensors."""
        formula = FORMULAS[ctx.formula]
        assert isinstance(formula, Formula)
        of_x, of_second = (
            autograd.drop(derivative, grad_output, ctx.key) if needed else None
            for derivative, needed in zip(
                (formula.derivative, formula.second_derivative), ctx.needs_input_grad[1:3], strict=True
            )
        )
        return None, of_x, of_second, None


_record: Any = super(torch.autograd.Function, JoinFunction).apply  # binds no inspect.signature


@entry()
def join(
    variant: JoinVariant,
    x: torch.Tensor,
    second: torch.Tensor,
    p: float,
    training: bool,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return a variant's result for two tensors; p is checked."""
    given, signed_offset = check_key(seed, offset, generator)
    _check(variant.name, x, second)
    if training and 0.0 < p < 1.0 and _is_for_kernel(x) and _is_for_kernel(second):
        key = p, resolve(x, given, generator), signed_offset, counting_strides_of(x), None
        recorded = is_recorded(x) or is_recorded(second)
        return (_record if recorded else _compute)(variant.formula, x, second, key)
    return variant.composed(call(DROPOUT, x, p, training, False, None, seed, offset, generator), second)


def _check(name: str, x: Any, second: Any) -> None:
    """Raise if the two do not fit each other: torch would broadcast one, and the mask would not be that of dropout."""
    for tensor in (x, second):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} needs two tensors, but got {type(tensor).__name__}")
        if tensor.is_nested or tensor.layout is not STRIDED:
            raise TypeError(f"{name} needs strided tensors, but got {'nested' if tensor.is_nested else tensor.layout}")
    if in_trace():
        return  # sizes are tensors there: to compare them would be recorded, or warned of
    if x.shape != second.shape or x.dtype != second.dtype or x.device != second.device:
        one, other = (f"{each.dtype} of shape {tuple(each.shape)} on {each.device}" for each in (x, second))
        raise ValueError(f"{name} needs two tensors of one shape, dtype and device, but got {one} and {other}")


def _is_for_kernel(x: torch.Tensor) -> bool:
    return autograd.is_for_kernel(x) and not (in_transform() or in_forward_ad() or x.is_neg()) and x.numel() > 0


def _compute(name: str, x: torch.Tensor, second: torch.Tensor, key: Key) -> torch.Tensor:
    p, seed, offset, counted_by, _ = key
    x, second = _readable(x, counted_by), _readable(second, counted_by)
    y = torch.empty_like(x)
    launch(name, x, y, p, seed, offset, second=second.data_ptr())
    return y


def _readable(x: torch.Tensor, counted_by: CountingStrides) -> torch.Tensor:
    """Return x, or a copy, with memory in the order that elements are counted in."""
    return x if has_strides(x, counted_by) and has_address(x) else copied_to_strides(x, counted_by)
