"""Alpha dropout, which keeps mean and variance of SELU's activations: of single elements and of whole channels."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_probability
from fastdrop._keys.key import Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.variants import ALPHA_DROPOUT, FEATURE_ALPHA_DROPOUT
from fastdrop.functional.channels import noise_of_channels


def alpha_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Drop each element to SELU's lower limit with probability p, as `torch.nn.functional.alpha_dropout` does.

    With alpha' = 1.758..., minus that limit, and a = ((alpha'^2 p + 1) (1 - p))^(-1/2), an element x becomes

        a x + a alpha' p  where kept,  -a alpha' (1 - p)  where dropped,

    so that inputs of mean 0 and variance 1 keep both. Nothing is kept for the backward.

    Parameters
    ----------
    input : Tensor of any shape
        The dtypes and devices that `dropout` takes. Results are rounded once, in float16 and bfloat16 too.
    p : float in [0, 1]
        Probability of an element being dropped. At 1 all become zero.
    training : bool
        If False, as is torch's default here, `input` itself is returned.
    inplace : bool
        If True, `input` is overwritten and returned.
    seed, offset, generator
        The key, as in `dropout`: with the same one, the same elements are dropped.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        A dropped element does not depend on what it was, be it NaN or infinity. `input` itself where nothing is to be
        done.

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    RuntimeError
        As `dropout` does.

    Examples
    --------
    >>> fastdrop.functional.alpha_dropout(torch.zeros(2, 4), 0.5, training=True, seed=0)
    tensor([[ 0.7792, -0.7792, -0.7792, -0.7792],
            [-0.7792, -0.7792, -0.7792, -0.7792]])

    Notes
    -----
    Klambauer et al., "Self-normalizing neural networks" (NeurIPS 2017).
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            alpha_dropout, (input,), input, p, training, inplace, seed=seed, offset=offset, generator=generator
        )
    p = check_probability(p, "alpha_dropout")
    return call(ALPHA_DROPOUT, input, p, training, inplace, None, seed, offset, generator)


def feature_alpha_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Alpha dropout of whole channels, as `torch.nn.functional.feature_alpha_dropout` does.

    As `alpha_dropout`, with one draw for each channel: the mask of shape (N, C, 1, ...) is counted in row-major order.

    Parameters
    ----------
    input : Tensor of shape (N, C, ...)
        The dtypes and devices that `dropout` takes. As in torch, there has to be a batch dimension.
    p, training, inplace, seed, offset, generator
        As in `alpha_dropout`.

    Returns
    -------
    Tensor
        As of `alpha_dropout`.

    Raises
    ------
    ValueError, RuntimeError
        As `alpha_dropout` does; also if there is something to drop and input has less than two dimensions.

    Examples
    --------
    >>> fastdrop.functional.feature_alpha_dropout(torch.zeros(1, 3, 2), 0.5, training=True, seed=0)
    tensor([[[ 0.7792,  0.7792],
             [-0.7792, -0.7792],
             [-0.7792, -0.7792]]])
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            feature_alpha_dropout, (input,), input, p, training, inplace, seed=seed, offset=offset, generator=generator
        )
    p = check_probability(p, "feature_alpha_dropout")
    noise = noise_of_channels(input, p, training) if isinstance(input, torch.Tensor) else None  # torch's error, below
    return call(FEATURE_ALPHA_DROPOUT, input, p, training, inplace, noise, seed, offset, generator)
