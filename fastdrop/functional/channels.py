"""Dropout of whole channels, with torch's rules of which dimension they are."""

import warnings
from collections.abc import Callable

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_probability
from fastdrop._keys.broadcast import channels_of
from fastdrop._keys.key import NoiseShape, Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.dynamo_skip import assume_constant_result
from fastdrop._ops.variants import FEATURE_DROPOUT, UNBATCHED_FEATURE_DROPOUT


def dropout1d(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each channel with probability p and scale the others by 1/(1-p), as `torch.nn.functional.dropout1d` does.

    A channel has one draw, whatever its length: the mask of shape (N, C, 1), or (C, 1), is counted in row-major order.
    A dropped channel is not read, and nothing is kept for the backward.

    Parameters
    ----------
    input : Tensor of shape (N, C, L) or (C, L)
        The dtypes and devices that `dropout` takes.
    p : float in [0, 1]
        Probability of a channel being zeroed.
    training : bool
        If False, `input` itself is returned.
    inplace : bool
        If True, `input` is overwritten and returned.
    seed, offset, generator
        The key, as in `dropout`.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        A dropped element is +0 whatever it was. `input` itself where nothing is to be done.

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    RuntimeError
        If input has neither two nor three dimensions, in eval mode too; else as `dropout` does.

    Examples
    --------
    >>> fastdrop.functional.dropout1d(torch.ones(1, 3, 2), 0.5, seed=0)
    tensor([[[2., 2.],
             [0., 0.],
             [0., 0.]]])

    Notes
    -----
    Tompson et al., "Efficient object localization using convolutional networks" (CVPR 2015).
    """
    return _drop_channels(dropout1d, 1, input, p, training, inplace, seed, offset, generator)


def dropout2d(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each channel with probability p and scale the others by 1/(1-p), as `torch.nn.functional.dropout2d` does.

    As `dropout1d`, with a mask of shape (N, C, 1, 1). An input without a batch is not supported, as in torch:
    three dimensions are taken as (N, C, L), and of ranks other than four the first two dimensions are dropped, both
    with torch's warning.

    Parameters
    ----------
    input : Tensor of shape (N, C, H, W) or (N, C, L)
        The dtypes and devices that `dropout` takes.
    p, training, inplace, seed, offset, generator
        As in `dropout1d`.

    Returns
    -------
    Tensor
        As of `dropout1d`.

    Raises
    ------
    ValueError, RuntimeError
        As `dropout1d` does, but for the rank only if there is something to drop and input has less than two dimensions.

    Examples
    --------
    >>> fastdrop.functional.dropout2d(torch.ones(1, 3, 1, 2), 0.5, seed=0)
    tensor([[[[2., 2.]],
             [[0., 0.]],
             [[0., 0.]]]])
    """
    return _drop_channels(dropout2d, 2, input, p, training, inplace, seed, offset, generator)


def dropout3d(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each channel with probability p and scale the others by 1/(1-p), as `torch.nn.functional.dropout3d` does.

    As `dropout1d`, with a mask of shape (N, C, 1, 1, 1), or (C, 1, 1, 1) without a batch. Inputs of other than four and
    five dimensions get torch's warning, and are taken as one sample.

    Parameters
    ----------
    input : Tensor of shape (N, C, D, H, W) or (C, D, H, W)
        The dtypes and devices that `dropout` takes.
    p, training, inplace, seed, offset, generator
        As in `dropout1d`.

    Returns
    -------
    Tensor
        As of `dropout1d`.

    Raises
    ------
    ValueError, RuntimeError
        As `dropout1d` does, but for the rank only if there is something to drop and input has no dimension.

    Examples
    --------
    >>> fastdrop.functional.dropout3d(torch.ones(3, 1, 1, 2), 0.5, seed=0)
    tensor([[[[2., 2.]]],
            [[[0., 0.]]],
            [[[0., 0.]]]])
    """
    return _drop_channels(dropout3d, 3, input, p, training, inplace, seed, offset, generator)


def noise_of_channels(input: torch.Tensor, p: float, training: bool, batched: bool = True) -> NoiseShape:
    """Return the shape of the mask that drops channels; None where nothing is random, and torch accepts any shape."""
    if not training or not 0.0 < p < 1.0:
        return None
    if input.dim() <= batched and input.numel() > 0:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return channels_of(input.shape, batched)


def _drop_channels(
    function: Callable[..., torch.Tensor], spatial: int, input: torch.Tensor, p: float, training: bool, inplace: bool,
    seed: Seed | None, offset: int, generator: torch.Generator | None,
) -> torch.Tensor:  # fmt: skip
    """Return what the public function for channels of so many spatial dimensions is to return."""
    if has_torch_function_unary(input):
        return handle_torch_function(
            function, (input,), input, p, training, inplace, seed=seed, offset=offset, generator=generator
        )
    p = check_probability(p, "feature_dropout")
    _check_rank(input.dim(), spatial)
    batched = spatial == 2 or input.dim() == spatial + 2
    noise = noise_of_channels(input, p, training, batched)
    variant = FEATURE_DROPOUT if batched else UNBATCHED_FEATURE_DROPOUT
    return call(variant, input, p, training, inplace, noise, seed, offset, generator)


def _check_rank(rank: int, spatial: int) -> None:
    """Raise or warn where torch does, in its words."""
    if rank == spatial + 2 or (rank == spatial + 1 and spatial != 2):
        return
    name, ranks = f"dropout{spatial}d", f"{spatial + 1}D or {spatial + 2}D"
    if spatial == 2 and rank == 3:
        text = (
            f"{name}: Received a 3D input to {name} and assuming that channel-wise "
            "1D dropout behavior is desired - input is interpreted as shape (N, C, L), where C "
            "is the channel dim. This behavior will change in a future release to interpret the "
            "input as one without a batch dimension, i.e. shape (C, H, W). To maintain the 1D "
            "channel-wise dropout behavior, please switch to using dropout1d instead."
        )
    elif spatial == 1:
        raise RuntimeError(
            f"{name}: Expected {ranks} input, but received a {rank}D input. "
            f"Note that {name} exists to provide channel-wise dropout on inputs with 1 "
            "spatial dimension, a channel dimension, and an optional batch dimension "
            f"(i.e. {ranks} inputs)."
        )
    else:
        text = (
            f"{name}: Received a {rank}-D input to {name}, which is deprecated "
            "and will result in an error in a future release. To retain the behavior "
            f"and silence this warning, please use dropout instead. Note that {name} "
            f"exists to provide channel-wise dropout on inputs with {spatial} spatial dimensions, "
            f"a channel dimension, and an optional batch dimension (i.e. {ranks} inputs)."
        )
    _warn(text)


@assume_constant_result  # called by compilation, once; `warn` would break the graph
def _warn(text: str) -> None:
    """Warn of the line that called the public function, four calls above."""
    warnings.warn(text, stacklevel=5)
