"""The autograd side of all ops: a derivative is a formula with the same key, so nothing is kept but the key.

What has a key is computed here, forward and backward: `drop` says by whom.
"""

from collections.abc import Callable
from typing import Any

import torch

from fastdrop._devices.kernels import LOW, has_kernel
from fastdrop._keys import seeds as _seeds
from fastdrop._keys.key import CountingStrides, Key, NoiseShape
from fastdrop._ops import decompose, modes
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.layout import compute, compute_, has_memory, has_strides
from fastdrop._ops.modes import dispatch_modes, in_transform, is_compiling, is_legacy_batch, is_recorded, trace
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
        return None, drop(FORMULAS[ctx.formula].derivative, grad_output, ctx.key), None

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor, __: None) -> torch.Tensor:
        """Mask and scale the tangent."""
        return drop(FORMULAS[ctx.formula].derivative, tangent, ctx.key)


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
class DecomposedDropFunction(DropFunction):
    """The same by torch's operators, for what a kernel does not take or would hide; it keeps as little."""

    @staticmethod
    def forward(ctx: Any, name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
        """Return the formula's result for x."""
        ctx.formula, ctx.key = name, key
        return decompose.run(name, x, key)


@dynamo_skip
class FunctorchDropFunction(torch.autograd.Function):
    """The same in the form that torch.func needs; its two calls more are worth microseconds on small tensors."""

    @staticmethod
    def forward(
        name: str,
        x: torch.Tensor,
        parameter: float,
        seed: Any,
        offset: int,
        counted_by: CountingStrides,
        noise_shape: NoiseShape,
    ) -> torch.Tensor:
        """Return the formula's result for x."""
        key = parameter, _seeds.as_kernel_seed(x, seed), offset, counted_by, noise_shape
        return compute(name, x, key) if is_for_kernel(x) else decompose.run(name, x, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the key; a seed that is a tensor belongs to a level of torch.func, which has to know of it."""
        ctx.formula, _, parameter, seed, offset, counted_by, noise_shape = inputs
        ctx.key = parameter, seed, offset, counted_by, noise_shape
        if isinstance(seed, torch.Tensor):
            ctx.key = parameter, None, offset, counted_by, noise_shape
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
        info: Any, in_dims: tuple[int | None, ...], name: str, x: torch.Tensor, parameter: float, seed: Any, *rest: Any
    ) -> tuple[torch.Tensor, int]:
        """Apply to each row."""
        _, x_dim, _, seed_dim, *_ = in_dims
        return over_rows(
            info.batch_size, x, x_dim, seed, seed_dim, lambda row, one: _drop_at_level(name, row, parameter, one, *rest)
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


def _drop_at_level(name: str, x: torch.Tensor, parameter: float, seed: Any, *rest: Any) -> torch.Tensor:
    """Go on at the next level of torch.func, or below the last one."""
    if not (is_compiling() or in_transform()):
        seed = _seeds.as_kernel_seed(x, seed)
    return drop(name, x, (parameter, seed, *rest))


def _derivative_at_level(ctx: Any, x: torch.Tensor) -> torch.Tensor:
    parameter, seed, *rest = ctx.key
    seed = ctx.saved_tensors[0] if seed is None else seed
    return _drop_at_level(FORMULAS[ctx.formula].derivative, x, parameter, seed, *rest)


# Function.apply binds an inspect.signature on every call, for functorch's sake; the C++ method below it does not.
record: Any = super(torch.autograd.Function, DropFunction).apply
_record_in_place: Any = super(torch.autograd.Function, InPlaceDropFunction).apply


def is_for_kernel(x: torch.Tensor) -> bool:
    """Return whether a kernel may compute with x: it can read it, and nobody has to see that.

    Each run of a checkpoint asks anew, and each derivative: one may be watched by a mode where the other is not.
    """
    if is_compiling():  # Dynamo, which traces this, knows none of the other questions
        return False
    return has_kernel(x) and not dispatch_modes() and trace() is None and not is_legacy_batch(x)  # as dispatch.route


def drop(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x, computed by whoever is to."""
    if name == IDENTITY:
        return x
    if in_transform() and not modes.in_graph():
        return FunctorchDropFunction.apply(name, x, *key)  # type: ignore[no-any-return, no-untyped-call]
    if not is_for_kernel(x):
        return decomposed_drop(name, x, key)
    return (record if is_recorded(x) else compute)(name, x, key)


def decomposed_drop(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x by torch's operators, seen by whoever watches."""
    if name == IDENTITY:
        return x
    if modes.in_graph():
        return decompose.record(name, x, key)
    if in_transform() or is_legacy_batch(x) or not is_recorded(x):
        return decompose.run(name, x, key)
    return DecomposedDropFunction.apply(name, x, key)  # type: ignore[no-any-return, no-untyped-call]


def drop_(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Overwrite x with a formula's result, and return x."""
    recorded = is_recorded(x)
    if (
        in_transform()
        or modes.in_forward_ad()
        or (recorded and (x.is_leaf or x._is_view()))
        or x.is_inference()
        or x.is_neg()
        or (key[4] is None and not has_strides(x, key[3]))
        or (x.data_ptr() < LOW and not has_memory(x))
    ):
        return x.copy_(drop(name, x, key))  # torch's own rules and errors for all that is not plain
    if recorded:
        return _record_in_place(name, x, key)  # type: ignore[no-any-return]
    torch.autograd.graph.increment_version(compute_(name, x, key))
    return x
