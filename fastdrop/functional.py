"""Stateless dropouts, with the signatures of torch.nn.functional."""

import math
from collections.abc import Sequence

import torch
from torch._C import _are_functorch_transforms_active
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop import _autograd, _backend, _native, _operators, _seeds
from fastdrop._backend import has_kernel
from fastdrop._checks import check_generator, check_probability, check_range, check_seed, signed64
from fastdrop._composite import is_watched
from fastdrop._layout import order_of

__all__ = ["dropout", "dropout_mask"]


def dropout(
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    seed: int | torch.Tensor | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Zero each element with probability p and scale the others by 1/(1-p), as `torch.nn.functional.dropout` does.

    The mask is made, applied and, in the backward, made again in one pass each; nothing is kept for the backward.

    Parameters
    ----------
    input : Tensor of any shape
        float16, bfloat16, float32 or float64 on the CPU or a CUDA device is ours; all else goes to native torch.
    p : float in [0, 1]
        Probability of an element being zeroed.
    training : bool
        If False, `input` itself is returned.
    inplace : bool
        If True, `input` is overwritten and returned.
    seed : int in [0, 2**64) or int64 tensor of one element, optional
        With it, the mask is a function of (seed, offset) and p alone, and no generator advances. A CUDA tensor is read
        by the kernel, as it was when it was given; no call waits for the GPU.
    offset : int in [0, 2**64)
        Second half of the key: a step or a layer, say. Without a seed it counts too.
    generator : torch.Generator, optional
        Where the seed is drawn; default: torch's of the input's device, so `torch.manual_seed` reproduces masks.

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
        Torch's: for integer input at 0 < p < 1; in place, for leaves that require grad and for expanded tensors. Ours:
        for a sparse or nested input together with a seed or a generator; where a CUDA graph is captured before the
        kernels are loaded.

    Examples
    --------
    >>> x = torch.ones(2, 4)
    >>> fastdrop.functional.dropout(x, 0.5, seed=0)
    tensor([[2., 0., 0., 0.],
            [0., 0., 0., 0.]])

    Notes
    -----
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (JMLR 2014). For dense
    tensors the mask follows the order of memory, as native's does, else the elements row by row.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            dropout, (input,), input, p, training, inplace, seed=seed, offset=offset, generator=generator
        )
    if type(p) is not float or not 0.0 <= p <= 1.0:
        p = check_probability(p)
    chosen = None if seed is None else check_seed(seed)
    if generator is not None:
        check_generator(generator, seed)
    if type(offset) is not int or offset:
        offset = signed64(offset, "offset")
    if not isinstance(input, torch.Tensor):
        return torch.nn.functional.dropout(input, p, training, inplace)  # type: ignore[unreachable]  # raises torch's error
    if not training or p == 0.0:
        return input
    if is_dynamo_compiling():
        return _operators.dropout(input, p, inplace, chosen, offset, generator)
    if not has_kernel(input) or is_watched():
        return _native.dropout(input, p, inplace, chosen, offset, generator)
    if input.numel() == 0:
        return input
    if p == 1.0 and chosen is None:
        chosen = 0  # all is dropped: as in native, no generator advances
    if _are_functorch_transforms_active():
        if torch._is_functional_tensor(input):  # torch.func.functionalize knows no autograd.Function
            return _native.dropout(input, p, inplace, chosen, offset, generator)
        chosen = _seeds.draw_tensor(generator, input) if chosen is None else chosen
    else:
        plain = chosen is None and generator is None and input.is_cpu  # spares the usual case two calls
        chosen = _seeds.draw() if plain else _seeds.of(input, chosen, generator)
    key = p, chosen, offset, None if input.is_contiguous() else order_of(input)  # spares the usual case a call
    return _autograd.dropout_(input, key) if inplace else _autograd.dropout(input, key)


def dropout_mask(
    size: int | Sequence[int],
    p: float,
    *,
    seed: int | torch.Tensor,
    offset: int = 0,
    start: int = 0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Return the mask that `dropout` uses for a contiguous tensor of this size: True where the element is kept.

    Parameters
    ----------
    size : int or sequence of ints
        Shape of the mask.
    p : float in [0, 1]
        Probability of an element being dropped.
    seed, offset : int in [0, 2**64)
        The key, as in `dropout`; seed may be an int64 tensor of one element.
    start : int
        Index in the mask stream of the first element: a part of a larger mask can be had without the rest.
    device : device, optional
        Where the mask is wanted (default: the CPU). It is the same on all.

    Returns
    -------
    bool Tensor of shape `size`, contiguous

    Raises
    ------
    ValueError
        If p is outside [0, 1], seed or offset outside [0, 2**64), or if start is negative or the end beyond 2**63.
    TypeError
        If seed, offset or start is no integer.

    Examples
    --------
    >>> fastdrop.functional.dropout_mask(8, 0.5, seed=0)
    tensor([ True, False, False, False, False, False, False, False])
    """
    p, chosen, offset = check_probability(p), check_seed(seed), signed64(offset, "offset")
    shape = size if isinstance(size, torch.Size) else torch.empty(size, device="meta").shape  # with torch's errors
    first = check_range(start, math.prod(shape))
    where = torch.empty(0, device="cpu" if device is None else device)
    if is_dynamo_compiling() or _native.is_graphed():
        return _operators.mask(shape, p, chosen, offset, first, where.device)
    return _backend.mask(shape, p, _seeds.of(where, chosen, None), offset, first, device=where.device)
