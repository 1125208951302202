"""What the kernels do not take, and what happens to it: native torch where it has the operator, else torch's operators.

Right everywhere, if slower.
"""

import torch

from fastdrop._devices.kernels import has_kernel
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops import autograd, library
from fastdrop._ops.layout import counting_strides_of
from fastdrop._ops.modes import in_graph_tracing, in_transform, is_exported, is_functional
from fastdrop._ops.native import by_torchs_draws, native
from fastdrop._ops.resolve import draw_in_graph, resolve
from fastdrop._ops.variants import Variant


def drop(
    variant: Variant,
    x: torch.Tensor,
    parameter: float,
    inplace: bool,
    noise_shape: NoiseShape,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return native's result; where there is a key, or only a mode that watches, this stream's by torch's operators."""
    if in_graph_tracing():
        return library.drop(variant, x, parameter, inplace, noise_shape, seed, offset, generator)
    keyed = seed is not None or generator is not None
    exported = not keyed and is_exported()
    if variant.native is not None and (exported or not (keyed or has_kernel(x))):
        return native(variant, x, parameter, inplace)
    if not library.takes(x):
        if variant.native is None or not (x.is_floating_point() or x.is_complex()):
            return native(variant, x, parameter, inplace)  # integers have no mask to speak of, or torch's error
        kind = "a nested tensor" if x.is_nested else x.layout
        raise RuntimeError(f"{variant.name} with a seed or a generator needs a strided tensor, but got {kind}")
    if exported:
        return by_torchs_draws(variant, x, parameter, inplace, noise_shape)
    if x.numel() == 0:
        return x
    seed = variant.seed_at(parameter, seed)
    counted_by = None if noise_shape is not None else counting_strides_of(x)
    if in_transform() and not is_functional(x):
        key = parameter, draw_in_graph(generator, x) if seed is None else seed, offset, counted_by, noise_shape
        y = autograd.drop(variant.formula, x, key)
    else:
        key = parameter, resolve(x, seed, generator), offset, counted_by, noise_shape
        y = autograd.decomposed_drop(variant.formula, x, key)
    return x.copy_(y) if inplace else y
