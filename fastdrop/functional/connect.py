"""Dropout of weights."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastdrop._keys.key import Seed
from fastdrop.functional.elements import dropout


def drop_connect(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, p: float = 0.5,
    training: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Apply a linear layer whose weights, not whose outputs, are dropped: `linear(input, dropout(weight, p), bias)`.

    Parameters
    ----------
    input : Tensor of shape (*, in_features), or (in_features)
        As for `torch.nn.functional.linear`.
    weight : Tensor of shape (out_features, in_features), or (in_features)
        Each element is zeroed with probability p, the others are scaled by 1/(1-p). One mask serves the whole batch.
    bias : Tensor of shape (out_features), or (), optional
        It is never dropped.
    p : float in [0, 1]
        Probability of a weight being zeroed.
    training : bool
        If False, all weights are used as they are.
    seed, offset, generator
        The key of the weights' mask, as in `functional.dropout`.

    Returns
    -------
    Tensor of shape (*, out_features)

    Raises
    ------
    ValueError, TypeError
        As `functional.dropout` does.
    RuntimeError
        Torch's, where shapes or dtypes do not fit.

    Examples
    --------
    >>> weight = torch.ones(3, 4)
    >>> fastdrop.functional.drop_connect(x, weight, seed=0)
    tensor([[2., 0., 6.],
            [2., 0., 6.]])

    Notes
    -----
    Wan et al., "Regularization of neural networks using DropConnect" (ICML 2013), with the usual scale in training in
    place of their sampling at inference. They give each example of a batch a mask of its own; here, as in AWD-LSTM
    and in most implementations, a batch shares one.
    """
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(
            drop_connect, (input, weight, bias), input, weight, bias, p, training,
            seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    dropped = dropout(weight, p, training, seed=seed, offset=offset, generator=generator)
    return torch.nn.functional.linear(input, dropped, bias)
