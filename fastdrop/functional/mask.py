"""The masks of dropout by themselves."""

import math
from collections.abc import Sequence

import torch

from fastdrop._keys.arguments import check_probability, check_range, check_seed, signed64
from fastdrop._ops import masks


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
    return masks.mask(where, shape, p, chosen, offset, None, first)
