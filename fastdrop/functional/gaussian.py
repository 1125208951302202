"""Gaussian noise, multiplied or added."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_below_1, check_std
from fastdrop._keys.key import Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.variants import GAUSSIAN_DROPOUT, GAUSSIAN_NOISE


def gaussian_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Multiply each element by a number from N(1, p/(1-p)), the mean and variance of dropout's own noise.

    The noise is made, applied and, in the backward, made again in one pass each; nothing is kept for the backward.

    Parameters
    ----------
    input : Tensor of any shape
        Of floating point or complex numbers. float16 and bfloat16 are computed in float32 and rounded once.
    p : float in [0, 1)
        The drop probability of the dropout whose noise this is.
    training : bool
        If False, `input` itself is returned.
    seed, offset, generator
        As in `dropout`. The same key gives the same noise, bit for bit, on CPUs and GPUs.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        `input` itself in eval mode and at p = 0.

    Raises
    ------
    ValueError
        If p is outside [0, 1]; if it is 1, where the variance would be infinite.
    TypeError
        If input is no strided tensor of floating point or complex numbers.

    Examples
    --------
    >>> y = fastdrop.functional.gaussian_dropout(torch.ones(100_000), 0.2, seed=0)
    >>> round(y.mean().item(), 2), round(y.std().item(), 2)
    (1.0, 0.5)

    Notes
    -----
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (JMLR 2014), section 10, and
    Keras' GaussianDropout. Noise has the resolution of float32, also where input is float64.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            gaussian_dropout, (input,), input, p, training, seed=seed, offset=offset, generator=generator
        )
    p = check_below_1(p, "gaussian_dropout")
    return call(GAUSSIAN_DROPOUT, input, p, training, False, None, seed, offset, generator)


def gaussian_noise(
    input: torch.Tensor, std: float, training: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Add to each element a number from N(0, std**2).

    Parameters
    ----------
    input : Tensor of any shape
        Of floating point or complex numbers (noise is added to the real part). Half types are rounded once.
    std : float, at least 0
        Standard deviation.
    training, seed, offset, generator
        As in `gaussian_dropout`.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        `input` itself in eval mode and at std = 0.

    Raises
    ------
    ValueError
        If std is negative or not finite.
    TypeError
        If input is no strided tensor of floating point or complex numbers.

    Examples
    --------
    >>> y = fastdrop.functional.gaussian_noise(torch.zeros(100_000), 2.0, seed=0)
    >>> abs(round(y.mean().item(), 1)), round(y.std().item(), 1)
    (0.0, 2.0)

    Notes
    -----
    Bishop, "Training with noise is equivalent to Tikhonov regularization" (Neural Computation 1995), and Keras'
    GaussianNoise. Gradients pass unchanged. Noise has the resolution of float32, also where input is float64.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            gaussian_noise, (input,), input, std, training, seed=seed, offset=offset, generator=generator
        )
    return call(GAUSSIAN_NOISE, input, check_std(std), training, False, None, seed, offset, generator)
