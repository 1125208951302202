"""What torch has of a variant's name, and what stands for it where torch has nothing."""

import math
from typing import Any

import torch

from fastdrop._keys.arguments import shown
from fastdrop._keys.key import NoiseShape
from fastdrop._ops import decompose
from fastdrop._ops.variants import DROPOUT, Variant
from fastdrop_kernels.formulas import FORMULAS, IDENTITY


def native(variant: Variant, x: Any, parameter: float, inplace: bool) -> torch.Tensor:
    """Return what torch has of this name, or raise its error; where it has nothing, raise one of ours."""
    if variant.native is not None:
        return variant.native(x, parameter, True, inplace)
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{variant.name} needs a tensor, but got {shown(x)}")
    kind = "a nested tensor" if x.is_nested else f"{x.dtype}, {x.layout}"
    raise TypeError(f"{variant.name} needs a strided tensor of floating point or complex numbers, but got {kind}")


def bytes_kept(formula: str, x: torch.Tensor, noise_shape: NoiseShape) -> int:
    """Return what torch's operators keep of a dropout of x for its backward: a mask that is scaled, in x's dtype.

    On a GPU torch has one kernel for the dropout of single elements, which keeps bools.
    """
    if FORMULAS[formula].derivative == IDENTITY:
        return 0
    by_one_kernel = x.is_cuda and noise_shape is None and formula == DROPOUT.formula
    elements = x.numel() if noise_shape is None else math.prod(noise_shape)
    return elements * (1 if by_one_kernel else x.itemsize)


def by_torchs_draws(
    variant: Variant, x: torch.Tensor, parameter: float, inplace: bool, noise_shape: NoiseShape
) -> torch.Tensor:
    """Return native's result, or where torch has none the variant's, by random operators of torch's own."""
    if variant.native is not None:
        return native(variant, x, parameter, inplace)
    y = decompose.run_by_torchs_draws(variant.formula, x, parameter, noise_shape)
    return x.copy_(y) if inplace else y
