"""The router: what every op does with its arguments. It decides who computes, and finds a key for that.

A kernel computes what it can read by its address and nobody has to see. In a graph that is recorded stands an operator
of torch.library. All else is done by torch's operators, with the same masks, or by native torch: see fallback.py.
"""

from collections.abc import Callable
from typing import TypeVar

import torch

from fastdrop._devices.kernels import has_kernel
from fastdrop._keys import seeds
from fastdrop._keys.arguments import check_generator, check_seed, signed64
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops import autograd, fallback, library, native
from fastdrop._ops.entries import entry
from fastdrop._ops.layout import compute, counting_strides_of
from fastdrop._ops.modes import (
    dispatch_modes,
    in_graph,
    in_transform,
    is_compiling,
    is_exported,
    is_functional,
    is_recorded,
    trace,
)
from fastdrop._ops.resolve import draw_in_graph, resolve
from fastdrop._ops.variants import Variant

Result = TypeVar("Result")


@entry()
def call(
    variant: Variant,
    input: torch.Tensor,
    parameter: float,
    training: bool,
    inplace: bool,
    noise_shape: NoiseShape,
    seed: int | torch.Tensor | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return a variant's result for input: the same object where nothing is to be done.

    parameter (p, or what the formula has in its place) and noise_shape are checked.
    """
    given = None if seed is None else check_seed(seed)
    if generator is not None:
        check_generator(generator, seed)
    if type(offset) is not int or offset:
        offset = signed64(offset, "offset")
    if not isinstance(input, torch.Tensor):
        return native.native(variant, input, parameter, inplace)  # type: ignore[unreachable]  # raises
    if not training or parameter == 0.0:
        return input
    if is_compiling():
        return library.drop(variant, input, parameter, inplace, noise_shape, given, offset, generator)
    return route(variant, input, parameter, inplace, noise_shape, given, offset, generator)


@entry()
def route(
    variant: Variant,
    input: torch.Tensor,
    parameter: float,
    inplace: bool,
    noise_shape: NoiseShape,
    given: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return the result of a call whose arguments are checked, in training, and which Dynamo does not trace."""
    # What in_dispatch_mode_or_trace asks stands here: that call would cost 64 elements one percent of their time.
    if not has_kernel(input) or dispatch_modes() or trace() is not None:
        return fallback.drop(variant, input, parameter, inplace, noise_shape, given, offset, generator)
    if input.numel() == 0:
        return input
    if parameter == variant.deterministic:
        given = variant.seed_at(parameter, given)
    transformed = in_transform()
    if transformed:
        if is_functional(input):  # torch.func.functionalize knows no autograd.Function
            return fallback.drop(variant, input, parameter, inplace, noise_shape, given, offset, generator)
        chosen = draw_in_graph(generator, input) if given is None else given
    else:
        plain = given is None and generator is None and input.is_cpu  # spares the usual case two calls
        chosen = seeds.draw() if plain else resolve(input, given, generator)
    counted_by = (
        None if noise_shape is not None or input.is_contiguous() else counting_strides_of(input)
    )  # spares a call too
    key = parameter, chosen, offset, counted_by, noise_shape
    if inplace:
        return autograd.drop_(variant.formula, input, key)
    if transformed:
        return autograd.drop(variant.formula, input, key)
    return (autograd.record if is_recorded(input) else compute)(variant.formula, input, key)


def route_mask(
    x: torch.Tensor,
    seed: Seed | None,
    generator: torch.Generator | None,
    by_torchs_draws: Callable[[], Result],
    by_operator: Callable[[torch.Tensor], Result],
    by_kernel: Callable[[Seed], Result],
) -> Result:
    """Return a mask for x, of a given or a fresh seed, made by whoever is to."""
    if seed is None and generator is None and is_exported():
        return by_torchs_draws()
    if in_graph() or in_transform():  # where a seed may be one of a batch
        return by_operator(draw_in_graph(generator, x) if seed is None else library.as_tensor(seed))
    return by_kernel(resolve(x, seed, generator))
