"""Dropout as an operator of torch.library: what compiled and exported graphs hold in place of a kernel's call.

Its seed is a tensor that the graph draws with torch.randint. The passes over a graph merge equal calls: never draws of
torch's own, but calls of an operator that drew inside, which would then share one mask.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch._functorch.utils import enable_single_level_autograd_function
from torch._prims_common import _is_non_overlapping_and_dense_or_false as is_dense
from torch._prims_common import make_contiguous_strides_for
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from fastdrop._devices.kernels import PLAIN, has_kernel
from fastdrop._keys import seeds as _seeds
from fastdrop._keys.arguments import check_noise_shape, check_probability, check_range, check_seed, cut
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops import decompose, draws, inductor_fallbacks, modes, native
from fastdrop._ops.autograd import over_rows
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.layout import compute, copied_to_strides, counting_strides_of, has_strides
from fastdrop._ops.modes import is_exported
from fastdrop._ops.resolve import draw_in_graph, resolve
from fastdrop._ops.variants import Variant
from fastdrop_kernels.formulas import FORMULAS, IDENTITY

# Formulas that the operator computes.
OF_ONE_TENSOR: Final = tuple(name for name, formula in FORMULAS.items() if formula.inputs == 1 and name != "mask")

_library: Any = torch.library.Library("fastdrop", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    # strides: of the dense tensor in whose memory's order elements are counted; default: input's, or row by row
    # noise: the shape of a mask that is broadcast; formula: what is computed of an element and its draw
    "dropout(Tensor input, float p, Tensor seed, SymInt offset=0, SymInt[]? strides=None, SymInt[]? noise=None, "
    'str formula="dropout") -> Tensor',
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides),
)
_library.define(
    "dropout_mask(SymInt[] size, float p, Tensor seed, SymInt offset=0, SymInt start=0, Device? device=None) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)
operator: Any = torch.ops.fastdrop.dropout.default
mask_operator: Any = torch.ops.fastdrop.dropout_mask.default
inductor_fallbacks.OPERATORS.extend([operator, mask_operator])


def takes(x: torch.Tensor) -> bool:
    """Return whether the operator takes x."""
    return not x.is_nested and x.layout is torch.strided and (x.is_floating_point() or x.is_complex())


def drop(
    variant: Variant,
    x: torch.Tensor,
    parameter: float,
    inplace: bool,
    noise_shape: NoiseShape,
    seed: Seed | None,
    offset: int,
    generator: Any,
) -> torch.Tensor:
    """Put a variant's operator into the graph that is being recorded; what the operator does not take stays torch's."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # here: it imports SymPy

    if not takes(x):
        return native.native(variant, x, parameter, inplace)
    if seed is None and generator is None and is_exported():
        return native.by_torchs_draws(variant, x, parameter, inplace, noise_shape)
    if statically_known_true(x.numel() == 0):  # of a size that the graph alone will know, nothing is asked: it draws
        return x
    seed = variant.seed_at(parameter, seed)
    seed = draw_in_graph(generator, x) if seed is None else as_tensor(seed)
    y: torch.Tensor = operator(x, parameter, seed, offset, None, noise_shape, variant.formula)
    return x.copy_(y) if inplace else y


def check_formula(formula: str) -> str:
    """Return the name of a formula of one tensor, or raise: a kernel of two would read where no second one is."""
    if formula not in OF_ONE_TENSOR:
        raise ValueError(f"formula has to be one of {', '.join(OF_ONE_TENSOR)}, but got {cut(formula)}")
    return formula


def as_tensor(seed: int | torch.Tensor) -> torch.Tensor:
    """Return a seed as the graph can hold it."""
    if not modes.is_compiling() and type(seed) in PLAIN and modes.in_fake_mode():
        with modes.unseen():
            seed = int(seed)  # a tensor from outside, among fake ones
    return seed if isinstance(seed, torch.Tensor) else torch.full((), seed, dtype=torch.int64)


@dynamo_skip
def _dropout(
    x: torch.Tensor, p: float, seed: torch.Tensor, offset: int = 0,
    strides: Sequence[int] | None = None, noise_shape: Sequence[int] | None = None, formula: str = "dropout",
) -> torch.Tensor:  # fmt: skip
    """Return the formula's result, like x in memory, or in memory of the strides that elements are counted by."""
    check_probability(p)
    check_seed(seed)
    check_formula(formula)
    if noise_shape is not None:
        counted_by, noise_shape = None, check_noise_shape(noise_shape, x.shape)
    elif strides is None or tuple(strides) == x.stride():
        counted_by = counting_strides_of(x)
    else:
        counted_by = counting_strides_of(torch.empty_strided(x.shape, strides, device="meta"))
        x = x if has_strides(x, counted_by) else copied_to_strides(x, counted_by)
    key = p, _seeds.as_kernel_seed(x, seed), offset, counted_by, noise_shape
    return compute(formula, x, key) if has_kernel(x) else torch.empty_like(x).copy_(decompose.run(formula, x, key))


def _fake(
    x: torch.Tensor, p: float, seed: torch.Tensor, offset: int = 0, strides: Sequence[int] | None = None, *_: Any
) -> torch.Tensor:
    """Return an empty tensor like the operator's result."""
    inductor_fallbacks.announce()
    return torch.empty_like(x) if strides is None else x.new_empty_strided(x.shape, strides)


@dynamo_skip
def _mask(
    size: Sequence[int], p: float, seed: torch.Tensor, offset: int = 0, start: int = 0, device: Any = None
) -> torch.Tensor:
    """Return a mask: see `functional.dropout_mask`."""
    check_probability(p)
    check_seed(seed)
    check_range(start, math.prod(size))
    where = torch.empty(0, device=device)
    return draws.mask(size, p, resolve(where, seed, None), offset, start, device=where.device)


def _fake_mask(
    size: Sequence[int], p: float, seed: torch.Tensor, offset: int = 0, start: int = 0, device: Any = None
) -> torch.Tensor:
    """Return an empty tensor like a mask."""
    inductor_fallbacks.announce()
    return torch.empty(size, dtype=torch.bool, device=device)


def _counted_by(x: torch.Tensor) -> Sequence[int]:
    """Return the strides that `counting_strides_of` stands for; sizes may be symbols, of which nothing is known."""
    return x.stride() if is_dense(x.shape, x.stride()) else make_contiguous_strides_for(x.shape)


@dynamo_skip
class OperatorFunction(_SingleLevelFunction):
    """The operator's derivatives, forward and backward: the operator with the same key.

    Torch's own `register_autograd` knows no tangents: they would silently be zero. It is recorded for one level of
    torch.func at a time, hence of the class that torch records a level with: a `Function` needs a setup_context.
    """

    @staticmethod
    def forward(
        ctx: Any, keyset: Any, x: torch.Tensor, p: float, seed: torch.Tensor, offset: int = 0,
        strides: Any = None, noise_shape: Any = None, formula: str = "dropout",
    ) -> torch.Tensor:  # fmt: skip
        """Return the operator's result."""
        counted_by = None if noise_shape is not None else strides or _counted_by(x)
        ctx.p, ctx.rest = p, (offset, counted_by, noise_shape, FORMULAS[check_formula(formula)].derivative)
        ctx.save_for_backward(seed)
        ctx.save_for_forward(seed)
        # A level of torch.func further out records below this one, and a Function's forward would forbid it.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(  # type: ignore[no-any-return]
                keyset & torch._C._after_autograd_keyset, x, p, seed, offset, strides, noise_shape, formula
            )

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        return None, OperatorFunction._derivative(ctx, grad_output), None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor, *__: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        return OperatorFunction._derivative(ctx, tangent)

    @staticmethod
    def _derivative(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x if ctx.rest[-1] == IDENTITY else operator(x, ctx.p, *ctx.saved_tensors, *ctx.rest)


_apply: Any = OperatorFunction.apply  # type: ignore[attr-defined]  # of its base in C++


@dynamo_skip
def _autograd(keyset: Any, x: torch.Tensor, *args: Any) -> torch.Tensor:
    """Record the operator, always in a graph, where autograd alone knows whether there is a gradient or a tangent."""
    if (
        not (torch.is_grad_enabled() or modes.in_transform() or modes.in_dispatch_mode_or_trace())
        and not modes.in_forward_ad()
        and has_kernel(x)
    ):
        return _dropout(x, *args)  # compiled code runs: nothing is recorded, and the way round costs 40 microseconds
    with enable_single_level_autograd_function():  # one level of torch.func; the next is met below
        return _apply(keyset, x, *args)  # type: ignore[no-any-return]


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], x: torch.Tensor, p: float, seed: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, int]:
    x_dim, _, seed_dim, *_ = in_dims
    return over_rows(info.batch_size, x, x_dim, seed, seed_dim, lambda row, one: operator(row, p, one, *rest))


def _vmap_mask(
    info: Any, in_dims: tuple[int | None, ...], size: Sequence[int], p: float, seed: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, int]:
    seeds = seed.unbind(in_dims[2] or 0)  # never None: no other argument can be batched
    return torch.stack([mask_operator(size, p, one, *rest) for one in seeds]), 0


_library.impl("dropout", _dropout, "CompositeExplicitAutograd")
_library.impl("dropout_mask", _mask, "CompositeExplicitAutograd")
_library.impl("dropout", _autograd, "Autograd", with_keyset=True)
torch.library.register_fake(operator, _fake, lib=_library)
torch.library.register_fake(mask_operator, _fake_mask, lib=_library)
torch.library.register_vmap(operator, _vmap, lib=_library)
torch.library.register_vmap(mask_operator, _vmap_mask, lib=_library)
