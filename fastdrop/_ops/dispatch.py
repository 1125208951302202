"""What every member of the family does with its arguments: it finds a key, and who is to compute with it."""

import torch
from torch._C import _are_functorch_transforms_active
from torch.compiler import is_dynamo_compiling

from fastdrop._devices.kernels import has_kernel
from fastdrop._keys import seeds
from fastdrop._keys.arguments import check_generator, check_seed, signed64
from fastdrop._keys.key import Noise
from fastdrop._ops import autograd, fallback, library
from fastdrop._ops.decompose import is_watched
from fastdrop._ops.layout import order_of
from fastdrop._ops.variants import Member


def call(
    member: Member,
    input: torch.Tensor,
    p: float,
    training: bool,
    inplace: bool,
    noise: Noise,
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
        return fallback.native(member, input, p, inplace)  # type: ignore[unreachable]  # raises
    if not training or p == 0.0:
        return input
    if is_dynamo_compiling():
        return library.drop(member, input, p, inplace, noise, chosen, offset, generator)
    if not has_kernel(input) or is_watched():
        return fallback.drop(member, input, p, inplace, noise, chosen, offset, generator)
    if input.numel() == 0:
        return input
    if p == member.certain:
        chosen = member.seed_at(p, chosen)
    if _are_functorch_transforms_active():
        if torch._is_functional_tensor(input):  # torch.func.functionalize knows no autograd.Function
            return fallback.drop(member, input, p, inplace, noise, chosen, offset, generator)
        chosen = seeds.draw_tensor(generator, input) if chosen is None else chosen
    else:
        plain = chosen is None and generator is None and input.is_cpu  # spares the usual case two calls
        chosen = seeds.draw() if plain else seeds.of(input, chosen, generator)
    order = None if noise is not None or input.is_contiguous() else order_of(input)  # spares the usual case a call
    key = p, chosen, offset, order, noise
    return autograd.drop_(member.formula, input, key) if inplace else autograd.drop(member.formula, input, key)
