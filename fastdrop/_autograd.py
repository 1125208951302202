"""The autograd side of dropout: the backward is the same operator with the same key, so nothing is kept but the key."""

from collections.abc import Callable
from typing import Any

import torch
from torch._C import _are_functorch_transforms_active
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from fastdrop import _composite, _seeds
from fastdrop._backend import has_kernel
from fastdrop._layout import Key, Order, is_counted, run, run_
from fastdrop._opaque import opaque


@opaque
class DropoutFunction(torch.autograd.Function):
    """y = x / (1 - p) where the element is kept, else 0, and the same of the gradient and of the tangent."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the dropout of x."""
        ctx.key = key
        return run("dropout", x, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return _dropout_of_derivative(grad_output, ctx.key), None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        """Mask and scale the tangent."""
        return _dropout_of_derivative(tangent, ctx.key)


def _dropout_of_derivative(x: torch.Tensor, key: Key) -> torch.Tensor:
    if is_legacy_batchedtensor(x):  # of is_grads_batched, say: functorch does not know of it
        return _composite.dropout(x, key)
    return composite_dropout(x, key) if _composite.is_watched() else dropout(x, key)


@opaque
class InPlaceDropoutFunction(DropoutFunction):
    """The same, written over x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Overwrite a dense x with its dropout."""
        ctx.key = key
        ctx.mark_dirty(x)
        return run_("dropout", x, key)


@opaque
class CompositeDropoutFunction(torch.autograd.Function):
    """The same by torch's operators, for what a kernel does not take or would hide; it keeps as little."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the dropout of x."""
        ctx.key = key
        return _composite.dropout(x, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return composite_dropout(grad_output, ctx.key), None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        """Mask and scale the tangent."""
        return composite_dropout(tangent, ctx.key)


@opaque
class FunctorchDropoutFunction(torch.autograd.Function):
    """The same in the form that torch.func needs; its two calls more are worth microseconds on small tensors."""

    @staticmethod
    def forward(x: torch.Tensor, p: float, seed: Any, offset: int, order: Order) -> torch.Tensor:
        """Return the dropout of x."""
        key = p, _seeds.readable_for(x, seed), offset, order
        return run("dropout", x, key) if has_kernel(x) and not _composite.is_watched() else _composite.dropout(x, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the key; a seed that is a tensor belongs to a level of torch.func, which has to know of it."""
        _, p, seed, offset, order = inputs
        ctx.key = p, seed, offset, order
        if isinstance(seed, torch.Tensor):
            ctx.key = p, None, offset, order
            ctx.save_for_backward(seed)
            ctx.save_for_forward(seed)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return _dropout_again(ctx, grad_output), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        return _dropout_again(ctx, tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: torch.Tensor, p: float, seed: Any, offset: int, order: Order
    ) -> tuple[torch.Tensor, int]:
        """Apply to each row."""
        x_dim, _, seed_dim, _, _ = in_dims
        return over_rows(
            info.batch_size, x, x_dim, seed, seed_dim, lambda row, one: _dropout(row, p, one, offset, order)
        )


def over_rows(
    count: int, x: torch.Tensor, x_dim: int | None, seed: Any, seed_dim: int | None, apply: Callable[..., torch.Tensor]
) -> tuple[torch.Tensor, int]:
    """Apply to each of vmap's rows: with its own seed where seeds are batched, else with the mask of all others."""
    if count == 0:
        return torch.empty_like(x), x_dim or 0
    rows = [x] * count if x_dim is None else x.unbind(x_dim)
    seeds = [seed] * count if seed_dim is None else seed.unbind(seed_dim)
    return torch.stack([apply(row, one) for row, one in zip(rows, seeds, strict=True)]), 0


def _dropout(x: torch.Tensor, p: float, seed: Any, offset: int, order: Order) -> torch.Tensor:
    """Go on at the next level of torch.func, or below the last one."""
    if _are_functorch_transforms_active():
        return dropout(x, (p, seed, offset, order))
    key = p, _seeds.readable_for(x, seed), offset, order
    return dropout(x, key) if has_kernel(x) and not _composite.is_watched() else composite_dropout(x, key)


def _dropout_again(ctx: Any, x: torch.Tensor) -> torch.Tensor:
    p, seed, offset, order = ctx.key
    return _dropout(x, p, ctx.saved_tensors[0] if seed is None else seed, offset, order)


# Function.apply binds an inspect.signature on every call, for functorch's sake; the C++ method below it does not.
_apply: Any = super(torch.autograd.Function, DropoutFunction).apply
_apply_in_place: Any = super(torch.autograd.Function, InPlaceDropoutFunction).apply


def _is_recorded(x: torch.Tensor) -> bool:
    """Return whether a graph or a tangent has to know of an operation on x."""
    return (x.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def dropout(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return the dropout of x, by the shortest way that autograd allows."""
    if _are_functorch_transforms_active():
        return FunctorchDropoutFunction.apply(x, *key)  # type: ignore[no-any-return, no-untyped-call]
    return recorded_dropout(x, key)


def recorded_dropout(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return the dropout of x, where no transform of torch.func is active."""
    if _is_recorded(x):
        return _apply(x, key)  # type: ignore[no-any-return]
    return run("dropout", x, key)


def composite_dropout(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return the dropout of x by torch's operators, seen by whoever watches."""
    if _are_functorch_transforms_active() or not _is_recorded(x):
        return _composite.dropout(x, key)
    return CompositeDropoutFunction.apply(x, key)  # type: ignore[no-any-return, no-untyped-call]


def dropout_(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Overwrite x with its dropout, and return x."""
    recorded = _is_recorded(x)
    if (
        _are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or (recorded and (x.is_leaf or x._is_view()))
        or x.is_inference()
        or x.is_neg()
        or not is_counted(x, key[3])
        or x.data_ptr() == 0
    ):
        return x.copy_(dropout(x, key))  # torch's own rules and errors for all that is not plain
    if recorded:
        return _apply_in_place(x, key)  # type: ignore[no-any-return]
    torch.autograd.graph.increment_version(run_("dropout", x, key))
    return x
