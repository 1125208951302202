"""The autograd side of the family: a derivative is a formula with the same key, so nothing is kept but the key."""

from collections.abc import Callable
from typing import Any

import torch
from torch._C import _are_functorch_transforms_active
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from fastdrop._devices.kernels import LOW, PLAIN, has_kernel, has_memory
from fastdrop._keys import seeds as _seeds
from fastdrop._keys.key import CountingStrides, Key, NoiseShape
from fastdrop._ops import decompose, modes
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.layout import compute, compute_, has_strides
from fastdrop_kernels.formulas import FORMULAS, IDENTITY


@dynamo_skip
class DropFunction(torch.autograd.Function):
    """y = f(x) by a formula and its key, and of gradient and tangent the formula's derivative with the same key."""

    @staticmethod
    def forward(ctx: Any, name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the formula's result for x."""
        ctx.formula, ctx.key = name, key
        return compute(name, x, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return None, _derivative(ctx.formula, grad_output, ctx.key), None

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor, __: None) -> torch.Tensor:
        """Mask and scale the tangent."""
        return _derivative(ctx.formula, tangent, ctx.key)


def _derivative(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    name = FORMULAS[name].derivative
    if is_dynamo_compiling():  # compiled autograd
        return composite_drop(name, x, key)
    if is_legacy_batchedtensor(x) and name != IDENTITY:  # of is_grads_batched, say: functorch does not know of it
        return decompose.run(name, x, key)
    if (
        type(x) not in PLAIN or modes.in_dispatch_mode_or_trace()
    ):  # gradients and tangents may be of classes that x is not of
        return composite_drop(name, x, key)
    return drop(name, x, key)


@dynamo_skip
class InPlaceDropFunction(DropFunction):
    """The same, written over x."""

    @staticmethod
    def forward(ctx: Any, name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Overwrite a dense x with the formula's result."""
        ctx.formula, ctx.key = name, key
        ctx.mark_dirty(x)
        return compute_(name, x, key)


@dynamo_skip
class CompositeDropFunction(torch.autograd.Function):
    """The same by torch's operators, for what a kernel does not take or would hide; it keeps as little."""

    @staticmethod
    def forward(ctx: Any, name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the formula's result for x."""
        ctx.formula, ctx.key = name, key
        return decompose.run(name, x, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return None, composite_drop(FORMULAS[ctx.formula].derivative, grad_output, ctx.key), None

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor, __: None) -> torch.Tensor:
        """Mask and scale the tangent."""
        return composite_drop(FORMULAS[ctx.formula].derivative, tangent, ctx.key)


@dynamo_skip
class FunctorchDropFunction(torch.autograd.Function):
    """The same in the form that torch.func needs; its two calls more are worth microseconds on small tensors."""

    @staticmethod
    def forward(
        name: str,
        x: torch.Tensor,
        p: float,
        seed: Any,
        offset: int,
        counted_by: CountingStrides,
        noise_shape: NoiseShape,
    ) -> torch.Tensor:
        """Return the formula's result for x."""
        key = p, _seeds.as_kernel_seed(x, seed), offset, counted_by, noise_shape
        return (
            compute(name, x, key)
            if has_kernel(x) and not modes.in_dispatch_mode_or_trace()
            else decompose.run(name, x, key)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the key; a seed that is a tensor belongs to a level of torch.func, which has to know of it."""
        ctx.formula, _, p, seed, offset, counted_by, noise_shape = inputs
        ctx.key = p, seed, offset, counted_by, noise_shape
        if isinstance(seed, torch.Tensor):
            ctx.key = p, None, offset, counted_by, noise_shape
            ctx.save_for_backward(seed)
            ctx.save_for_forward(seed)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return None, _derivative_at_level(ctx, grad_output), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor, *__: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        return _derivative_at_level(ctx, tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], name: str, x: torch.Tensor, p: float, seed: Any, *rest: Any
    ) -> tuple[torch.Tensor, int]:
        """Apply to each row."""
        _, x_dim, _, seed_dim, *_ = in_dims
        return over_rows(
            info.batch_size, x, x_dim, seed, seed_dim, lambda row, one: _drop_at_level(name, row, p, one, *rest)
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


def _drop_at_level(
    name: str, x: torch.Tensor, p: float, seed: Any, offset: int, counted_by: CountingStrides, noise_shape: NoiseShape
) -> torch.Tensor:
    """Go on at the next level of torch.func, or below the last one."""
    if is_dynamo_compiling():  # compiled autograd
        return composite_drop(name, x, (p, seed, offset, counted_by, noise_shape))
    if _are_functorch_transforms_active():
        return drop(name, x, (p, seed, offset, counted_by, noise_shape))
    key = p, _seeds.as_kernel_seed(x, seed), offset, counted_by, noise_shape
    return (
        drop(name, x, key) if has_kernel(x) and not modes.in_dispatch_mode_or_trace() else composite_drop(name, x, key)
    )


def _derivative_at_level(ctx: Any, x: torch.Tensor) -> torch.Tensor:
    p, seed, *rest = ctx.key
    return _drop_at_level(FORMULAS[ctx.formula].derivative, x, p, ctx.saved_tensors[0] if seed is None else seed, *rest)


# Function.apply binds an inspect.signature on every call, for functorch's sake; the C++ method below it does not.
_apply: Any = super(torch.autograd.Function, DropFunction).apply
_apply_in_place: Any = super(torch.autograd.Function, InPlaceDropFunction).apply


def is_recorded(x: torch.Tensor) -> bool:
    """Return whether a graph or a tangent has to know of an operation on x."""
    return (x.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def drop(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x, by the shortest way that autograd allows."""
    if name == IDENTITY:
        return x
    if _are_functorch_transforms_active():
        return FunctorchDropFunction.apply(name, x, *key)  # type: ignore[no-any-return, no-untyped-call]
    return recorded_drop(name, x, key)


def recorded_drop(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x, where no transform of torch.func is active."""
    if is_recorded(x):
        return _apply(name, x, key)  # type: ignore[no-any-return]
    return compute(name, x, key)


def composite_drop(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x by torch's operators, seen by whoever watches."""
    if name == IDENTITY:
        return x
    if modes.in_graph():
        return decompose.record(name, x, key)
    if _are_functorch_transforms_active() or not is_recorded(x):
        return decompose.run(name, x, key)
    return CompositeDropFunction.apply(name, x, key)  # type: ignore[no-any-return, no-untyped-call]


def drop_(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Overwrite x with a formula's result, and return x."""
    recorded = is_recorded(x)
    if (
        _are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or (recorded and (x.is_leaf or x._is_view()))
        or x.is_inference()
        or x.is_neg()
        or (key[4] is None and not has_strides(x, key[3]))
        or (x.data_ptr() < LOW and not has_memory(x))
    ):
        return x.copy_(drop(name, x, key))  # torch's own rules and errors for all that is not plain
    if recorded:
        return _apply_in_place(name, x, key)  # type: ignore[no-any-return]
    torch.autograd.graph.increment_version(compute_(name, x, key))
    return x
