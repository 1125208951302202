"""Dropout of whole rows of a batch, or of a whole batch: the paths of a residual network."""

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_drop_probability, check_mode, check_probability
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.variants import DROP_PATH, SCALED_DROP_PATH, STOCHASTIC_DEPTH


def drop_path(
    input: torch.Tensor, p: float = 0.0, training: bool = False, scale_by_keep: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each row of a batch with probability p, as `timm.layers.drop_path` does.

    Parameters
    ----------
    input : Tensor of shape (N, ...)
        A batch of N rows, of any number of dimensions from 1; dtypes and devices as in `dropout`.
    p : float in [0, 1]
        Probability of a row being zeroed; timm's `drop_prob`.
    training : bool
        If False, the default here, `input` itself is returned.
    scale_by_keep : bool
        If True, rows that are kept are multiplied by 1/(1-p).
    seed, offset, generator
        The key, as in `dropout`. The mask has the shape (N, 1, ..., 1).

    Returns
    -------
    Tensor of input's shape, dtype and strides
        A dropped row is +0 whatever it was. `input` itself where nothing is to be done, as in `dropout`.

    Raises
    ------
    ValueError
        If p is outside [0, 1], if the input has no dimensions, or for a bad key as in `dropout`.
    TypeError
        If the input is no strided tensor of floating point or complex numbers; for a bad key as in `dropout`.

    Examples
    --------
    >>> x = torch.ones(4, 2)
    >>> fastdrop.functional.drop_path(x, 0.5, training=True, seed=0)
    tensor([[2., 2.],
            [0., 0.],
            [0., 0.],
            [0., 0.]])

    Notes
    -----
    Huang et al., "Deep networks with stochastic depth" (ECCV 2016); Larsson et al., "FractalNet" (ICLR 2017).
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            drop_path, (input,), input, p, training, scale_by_keep, seed=seed, offset=offset, generator=generator
        )
    p = check_probability(p)
    variant = SCALED_DROP_PATH if scale_by_keep else DROP_PATH
    return call(variant, input, p, training, False, _rows_of(input, variant.name), seed, offset, generator)


def stochastic_depth(
    input: torch.Tensor, p: float, mode: str, training: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero a whole batch or each of its rows with probability p, as `torchvision.ops.stochastic_depth` does.

    Parameters
    ----------
    input : Tensor of shape (N, ...)
        A batch of N rows; dtypes and devices as in `dropout`.
    p : float in [0, 1]
        Probability of the batch or of a row being zeroed; what is kept is multiplied by 1/(1-p).
    mode : {"batch", "row"}
        "batch" keeps or zeroes the whole input, by a mask of shape (1, ..., 1); "row" each row, as `drop_path` does.
    training, seed, offset, generator
        As in `drop_path`.

    Returns
    -------
    Tensor
        As of `drop_path`.

    Raises
    ------
    ValueError
        Torchvision's: if p is outside [0, 1], or the mode is another. fastdrop's: if the input has no dimensions and
        the mode is "row"; for a bad key as in `dropout`.
    TypeError
        If the input is no strided tensor of floating point or complex numbers; for a bad key as in `dropout`.

    Examples
    --------
    >>> x = torch.ones(4, 2)
    >>> fastdrop.functional.stochastic_depth(x, 0.5, "batch", seed=0)
    tensor([[2., 2.],
            [2., 2.],
            [2., 2.],
            [2., 2.]])

    Notes
    -----
    Huang et al., "Deep networks with stochastic depth" (ECCV 2016).
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            stochastic_depth, (input,), input, p, mode, training, seed=seed, offset=offset, generator=generator
        )
    p = check_drop_probability(p)
    noise = _rows_of(input, STOCHASTIC_DEPTH.name, batched=check_mode(mode) == "row")
    return call(STOCHASTIC_DEPTH, input, p, training, False, noise, seed, offset, generator)


def _rows_of(input: Any, name: str, batched: bool = True) -> NoiseShape:
    """Return the shape of a mask of whole rows, or of the whole input where that is the row."""
    if not isinstance(input, torch.Tensor) or input.is_nested:
        return None  # the error is raised where the input is used
    if batched and input.dim() == 0:
        raise ValueError(f"{name} needs a tensor of at least 1 dimension, the batch's, but got one of shape ()")
    rows = input.shape[: int(batched)]
    return (*rows, *[1] * (input.dim() - len(rows)))
