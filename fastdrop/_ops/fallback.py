"""What the kernels do not take, and what happens to it: native torch where it has the operator, else torch's operators.

Right everywhere, if slower.
"""

from typing import Any

import torch
from torch._C import _are_functorch_transforms_active

from fastdrop._devices.kernels import has_kernel
from fastdrop._keys import seeds
from fastdrop._keys.arguments import shown
from fastdrop._keys.key import Noise, Seed
from fastdrop._ops import autograd, decompose, library
from fastdrop._ops.exported import is_exported
from fastdrop._ops.layout import order_of
from fastdrop._ops.variants import Member


def native(member: Member, x: Any, p: float, inplace: bool) -> torch.Tensor:
    """Return what torch has of this name, or raise its error; where it has nothing, raise one of ours."""
    if member.native is not None:
        return member.native(x, p, True, inplace)
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{member.name} needs a tensor, but got {shown(x)}")
    kind = "a nested tensor" if x.is_nested else f"{x.dtype}, {x.layout}"
    raise TypeError(f"{member.name} needs a strided tensor of floating point or complex numbers, but got {kind}")


def by_torchs_draws(member: Member, x: torch.Tensor, p: float, inplace: bool, noise: Noise) -> torch.Tensor:
    """Return native's result, or where torch has none the member's, by random operators of torch's own."""
    if member.native is not None:
        return native(member, x, p, inplace)
    y = decompose.run_by_torchs_draws(member.formula, x, p, noise)
    return x.copy_(y) if inplace else y


def drop(
    member: Member,
    x: torch.Tensor,
    p: float,
    inplace: bool,
    noise: Noise,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return native's result; where there is a key, or only a mode that watches, this stream's by torch's operators."""
    if decompose.is_graphed():
        return library.drop(member, x, p, inplace, noise, seed, offset, generator)
    keyed = seed is not None or generator is not None
    exported = not keyed and is_exported()
    if member.native is not None and (exported or not (keyed or has_kernel(x))):
        return native(member, x, p, inplace)
    if not library.takes(x):
        if member.native is None or not (x.is_floating_point() or x.is_complex()):
            return native(member, x, p, inplace)  # integers have no mask to speak of, or torch's error
        kind = "a nested tensor" if x.is_nested else x.layout
        raise RuntimeError(f"{member.name} with a seed or a generator needs a strided tensor, but got {kind}")
    if exported:
        return by_torchs_draws(member, x, p, inplace, noise)
    if x.numel() == 0:
        return x
    seed = member.seed_at(p, seed)
    order = None if noise is not None else order_of(x)
    if _are_functorch_transforms_active() and not torch._is_functional_tensor(x):
        key = seeds.draw_tensor(generator, x) if seed is None else seed
        y = autograd.drop(member.formula, x, (p, key, offset, order, noise))
    else:
        y = autograd.composite_drop(member.formula, x, (p, seeds.of(x, seed, generator), offset, order, noise))
    return x.copy_(y) if inplace else y
