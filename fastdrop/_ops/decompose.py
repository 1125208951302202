"""The formulas by torch's own operators, with masks of the stream: for all that a kernel cannot take by its address.

Other devices, complex numbers, traces, dispatch modes, batches of torch's older vmap, masks that lie over a tensor in
a way that no kernel knows. Where autograd looks inside, as under torch.func, it keeps the mask.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from fastdrop._keys.key import Key, NoiseShape
from fastdrop._ops.draws import mask, normals
from fastdrop_kernels.formulas import FORMULAS, IDENTITY, NormalFormula

COMPUTE: Final[dict[type[np.floating[Any]], torch.dtype]] = {np.float32: torch.float32, np.float64: torch.float64}


def run(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return the result of a formula for x."""
    parameter, seed, offset, counted_by, noise_shape = key
    formula = FORMULAS[name]
    if x.layout is not torch.strided:  # the gradient of a gather can be sparse
        x = x.to_dense()
    if isinstance(formula, NormalFormula):
        z = normals(x.shape, seed, offset, strides=counted_by, device=x.device).to(COMPUTE[compute_of(x.dtype)])
        return _noised(formula, x, z, parameter).to(x.dtype)
    shape = x.shape if noise_shape is None else noise_shape
    keep = mask(shape, parameter, seed, offset, strides=counted_by, device=x.device)
    return apply(name, x, keep, parameter)


def record(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Put a formula's operator into a graph that is being recorded, in the backward of an eager forward."""
    parameter, seed, offset, counted_by, noise_shape = key
    if not isinstance(seed, torch.Tensor):
        seed = torch.full((), seed, dtype=torch.int64)
    counted_by = None if noise_shape is not None else counted_by or _row_by_row(x.shape)
    y: torch.Tensor = torch.ops.fastdrop.dropout.default(x, parameter, seed, offset, counted_by, noise_shape, name)
    return y


def _row_by_row(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor; torch's own function for that breaks graphs in torch 2.10."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def run_by_torchs_draws(name: str, x: torch.Tensor, parameter: float, noise_shape: NoiseShape) -> torch.Tensor:
    """Return a formula's result for x by torch's own random operators: a trace of them draws at each run."""
    formula = FORMULAS[name]
    if isinstance(formula, NormalFormula):
        return _noised(formula, x, torch.randn_like(x), parameter)
    keep = mask_by_torchs_draws(x.shape if noise_shape is None else noise_shape, parameter, x.device)
    return apply(name, x, keep, parameter)


def mask_by_torchs_draws(shape: Sequence[int], p: float, device: torch.device) -> torch.Tensor:
    """Return a bool tensor, False with probability p, at each run of a trace anew."""
    return torch.rand(shape, device=device) >= p


def _noised(formula: NormalFormula, x: torch.Tensor, z: torch.Tensor, parameter: float) -> torch.Tensor:
    """Return the result of a formula for x and its standard normal numbers."""
    std, _, _ = map(float, formula.factors(parameter, compute_of(x.dtype)))
    z = z * std
    return x + z if formula.derivative == IDENTITY else x + x * z


def apply(name: str, x: torch.Tensor, keep: torch.Tensor, parameter: float) -> torch.Tensor:
    """Return the result of a formula for x and a mask that is broadcast over it."""
    scale, shift, fill = map(float, FORMULAS[name].factors(parameter, compute_of(x.dtype)))
    kept = x * scale if shift == 0 else x * scale + shift
    return torch.where(keep, kept, fill)


def compute_of(dtype: torch.dtype) -> type[np.floating[Any]]:
    """Return the NumPy scalar class that a formula computes in for a dtype."""
    return np.float64 if dtype in (torch.float64, torch.complex128) else np.float32
