"""What every member of the family does with its arguments: it finds a key, and who is to compute with it."""

import torch
from torch._C import _are_functorch_transforms_active
from torch.compiler import is_dynamo_compiling

from fastdrop._devices.kernels import has_kernel
from fastdrop._keys import seeds
from fastdrop._keys.arguments import check_generator, check_seed, signed64
from fastdrop._keys.key import NoiseShape
from fastdrop._ops import autograd, fallback, library, native
from fastdrop._ops.layout import counting_strides_of
from fastdrop._ops.modes import in_dispatch_mode_or_trace
from fastdrop._ops.variants import Variant


def call(
    variant: Variant,
    input: torch.Tensor,
    p: float,
    training: bool,
    inplace: bool,
    noise_shape: NoiseShape,
    seed: int | torch.Tensor | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return a member's result for input: the same object where nothing is to be done; p and noise are checked."""
    chosen = None if seed is None else check_seed(seed)
    if generator is not None:
        check_generator(generator, seed)
    if type(offset) is not int or offset:
        offset = signed64(offset, "offset")
    if not isinstance(input, torch.Tensor):
        return native.native(variant, input, p, inplace)  # type: ignore[unreachable]  # raises
    if not training or p == 0.0:
        return input
    if is_dynamo_compiling():
        return library.drop(variant, input, p, inplace, noise_shape, chosen, offset, generator)
    if not has_kernel(input) or in_dispatch_mode_or_trace():
        return fallback.drop(variant, input, p, inplace, noise_shape, chosen, offset, generator)
    if input.numel() == 0:
        return input
    if p == variant.deterministic_p:
        chosen = variant.seed_at(p, chosen)
    if _are_functorch_transforms_active():
        if torch._is_functional_tensor(input):  # torch.func.functionalize knows no autograd.Function
            return fallback.drop(variant, input, p, inplace, noise_shape, chosen, offset, generator)
        chosen = seeds.draw_tensor(generator, input) if chosen is None else chosen
    else:
        plain = chosen is None and generator is None and input.is_cpu  # spares the usual case two calls
        chosen = seeds.draw() if plain else seeds.resolve(input, chosen, generator)
    counted_by = (
        None if noise_shape is not None or input.is_contiguous() else counting_strides_of(input)
    )  # spares the usual case a call
    key = p, chosen, offset, counted_by, noise_shape
    return autograd.drop_(variant.formula, input, key) if inplace else autograd.drop(variant.formula, input, key)
