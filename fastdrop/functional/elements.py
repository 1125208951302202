"""Dropout of single elements, or by a mask that is broadcast."""

from collections.abc import Sequence

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_noise_shape, check_probability
from fastdrop._keys.key import Seed
from fastdrop._ops.dispatch import call
from fastdrop._ops.variants import BROADCAST_DROPOUT, DROPOUT


def dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
    noise_shape: Sequence[int | None] | None = None, seed: Seed | None = None, offset: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero each element with probability p and scale the others by 1/(1-p), as `torch.nn.functional.dropout` does.

    The mask is generated and applied in one pass, and generated again in the backward, for which nothing is saved.

    Parameters
    ----------
    input : Tensor of any shape
        float16, bfloat16, float32 and float64 on the CPU or a CUDA device have kernels; all else falls back to torch.
    p : float in [0, 1]
        Probability of an element being zeroed.
    training : bool
        If False, `input` itself is returned.
    inplace : bool
        If True, `input` is overwritten and returned.
    noise_shape : sequence of int and None, optional
        Shape of a mask that is broadcast over the input, as in Keras: 1 where all elements along a dimension share a
        draw, None or the input's size where each has its own. Such a mask is counted in row-major order.
    seed : int in [0, 2**64) or int64 tensor of one element, optional
        If given, the mask is a function of (seed, offset) and p alone, and no generator advances. A CUDA tensor is read
        by the kernel, with its value at the time of the call; there is no synchronization with the GPU.
    offset : int in [0, 2**64)
        Second half of the key, for instance a step or a layer. It is used without a seed too.
    generator : torch.Generator, optional
        The generator that the seed is drawn from; default: torch's for the input's device, so that `torch.manual_seed`
        reproduces masks.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        A dropped element is +0 whatever it was, NaN and infinity too. `input` itself where nothing is to be done: in
        eval mode, at p = 0, and where it has no elements.

    Raises
    ------
    ValueError
        If p is outside [0, 1], seed or offset outside [0, 2**64), or if seed and generator are both given.
    TypeError
        If seed or offset is no integer.
    RuntimeError
        Torch's: for integer input at 0 < p < 1; in place, for leaves that require grad and for expanded tensors.
        fastdrop's: for a sparse or nested input together with a seed or a generator; if a CUDA graph is captured before
        the kernels are loaded.

    Examples
    --------
    >>> x = torch.ones(2, 4)
    >>> fastdrop.functional.dropout(x, 0.5, seed=0)
    tensor([[2., 0., 0., 0.],
            [0., 0., 0., 0.]])

    Notes
    -----
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (JMLR 2014). For dense
    tensors the mask is counted in memory order, as in torch, for others in row-major order.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            dropout, (input,), input, p, training, inplace,
            noise_shape=noise_shape, seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    if type(p) is not float or not 0.0 <= p <= 1.0:
        p = check_probability(p)
    if noise_shape is None:
        return call(DROPOUT, input, p, training, inplace, None, seed, offset, generator)
    noise = check_noise_shape(noise_shape, input.shape)
    return call(BROADCAST_DROPOUT, input, p, training, inplace, noise, seed, offset, generator)
