"""Dropout by one mask for all steps of a sequence."""

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_probability
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.variants import VARIATIONAL_DROPOUT


def variational_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
    batch_first: bool = False, seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each feature of each sequence, at all its time steps at once, with probability p.

    Parameters
    ----------
    input : Tensor of shape (T, N, C), (N, T, C) with batch_first, or (T, C)
        N sequences of T steps with C features, laid out as `torch.nn.LSTM` takes them; dtypes and devices as in
        `dropout`.
    p : float in [0, 1]
        Probability of a feature being zeroed; the others are multiplied by 1/(1-p).
    training : bool
        If False, `input` itself is returned.
    inplace : bool
        If True, `input` is overwritten and returned.
    batch_first : bool
        If True, the first dimension of a 3-D input is the batch; else the time.
    seed, offset, generator
        The key, as in `dropout`. The mask has the shape (1, N, C), (N, 1, C) or (1, C), counted in row-major order:
        sequence n has the same one in either layout.

    Returns
    -------
    Tensor of input's shape, dtype and strides
        A dropped feature is +0 whatever it was. `input` itself where nothing is to be done, as in `dropout`.

    Raises
    ------
    ValueError
        If p is outside [0, 1], if the input is not 2-D or 3-D, or for a bad key as in `dropout`.
    TypeError
        If the input is no strided tensor of floating point or complex numbers; for a bad key as in `dropout`.
    RuntimeError
        Torch's, in place: for leaves that require grad and for expanded tensors.

    Examples
    --------
    >>> x = torch.ones(3, 1, 4)
    >>> fastdrop.functional.variational_dropout(x, 0.5, seed=0)
    tensor([[[2., 0., 0., 0.]],
    <BLANKLINE>
            [[2., 0., 0., 0.]],
    <BLANKLINE>
            [[2., 0., 0., 0.]]])

    Notes
    -----
    Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks" (NeurIPS 2016).
    It is the locked dropout of Merity et al., "Regularizing and optimizing LSTM language models" (ICLR 2018), and
    fastai's `RNNDropout`.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            variational_dropout, (input,), input, p, training, inplace,
            batch_first=batch_first, seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    p = check_probability(p)
    noise = _one_step(input, batch_first)
    return call(VARIATIONAL_DROPOUT, input, p, training, inplace, noise, seed, offset, generator)


def _one_step(input: Any, batch_first: bool) -> NoiseShape:
    """Return the shape of a mask that all time steps share."""
    if not isinstance(input, torch.Tensor) or input.is_nested:
        return None  # the error is raised where the input is used
    if input.dim() not in (2, 3):
        layouts = "(N, T, C)" if batch_first else "(T, N, C)"
        raise ValueError(
            f"variational_dropout needs a tensor of shape {layouts} or (T, C), but got {tuple(input.shape)}"
        )
    time = 1 if batch_first and input.dim() == 3 else 0
    return tuple(1 if dim == time else size for dim, size in enumerate(input.shape))
