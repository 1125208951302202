"""Dropout of blocks of neighbouring elements."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_block_size, check_drop_probability, check_float, check_key
from fastdrop._keys.key import Seed
from fastdrop._ops import library, native
from fastdrop._ops.drop_block import drop_block
from fastdrop._ops.entries import entry
from fastdrop._ops.variants import DROP_BLOCK2D, DROP_BLOCK3D, Variant


def drop_block2d(
    input: torch.Tensor, p: float, block_size: int, inplace: bool = False, eps: float = 1e-6, training: bool = True,
    *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero square blocks of each channel, of about p of all elements, as `torchvision.ops.drop_block2d` does.

    The others are multiplied by elements / (eps + elements that are kept), counted over the whole input. One byte an
    element is kept for the backward.

    Parameters
    ----------
    input : Tensor of shape (N, C, H, W)
        Any device; float16, bfloat16, float32, float64 or complex.
    p : float in [0, 1]
        Probability of an element being zeroed; where blocks overlap, fewer are.
    block_size : odd int
        Side of a block, limited to H and W, which have to be odd then.
    inplace : bool
        If True, `input` is overwritten and returned.
    eps : float
        Added to the number of elements that are kept.
    training : bool
        If False, `input` itself is returned.
    seed, offset, generator
        The key, as in `dropout`. With b for block_size, blocks start where `dropout_mask` of the shape
        (N, C, H - b + 1, W - b + 1) and the probability gamma = p H W / (b^2 (H - b + 1) (W - b + 1)) is False.

    Returns
    -------
    Tensor of input's shape and dtype
        A dropped element is +0 whatever it was. `input` itself in eval mode, at p = 0, and where it has no elements.

    Raises
    ------
    ValueError
        Torchvision's: if p is outside [0, 1], if the input is not 4-D, or if the side of a block is even. fastdrop's:
        if it is negative; for a bad key as in `dropout`.
    TypeError
        If block_size is no integer, or the input no strided tensor of floating point or complex numbers; for a bad key
        as in `dropout`.
    RuntimeError
        Torch's, in place: for leaves that require grad and for expanded tensors.

    Examples
    --------
    >>> x = torch.ones(1, 1, 5, 6)
    >>> fastdrop.functional.drop_block2d(x, 0.2, 3, seed=9) == 0
    tensor([[[[ True,  True,  True, False, False, False],
              [ True,  True,  True, False, False, False],
              [ True,  True,  True, False, False, False],
              [False, False, False, False, False, False],
              [False, False, False, False, False, False]]]])

    Notes
    -----
    Ghiasi et al., "DropBlock: a regularization method for convolutional networks" (NeurIPS 2018). As in torchvision,
    each channel has blocks of its own.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            drop_block2d, (input,), input, p, block_size, inplace, eps, training,
            seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    return _drop_blocks(DROP_BLOCK2D, 4, input, p, block_size, inplace, eps, training, seed, offset, generator)


def drop_block3d(
    input: torch.Tensor, p: float, block_size: int, inplace: bool = False, eps: float = 1e-6, training: bool = True,
    *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Zero cubic blocks of each channel, of about p of all elements, as `torchvision.ops.drop_block3d` does.

    Parameters
    ----------
    input : Tensor of shape (N, C, D, H, W)
        Any device; float16, bfloat16, float32, float64 or complex.
    p, block_size, inplace, eps, training, seed, offset, generator
        As in `drop_block2d`, with the depth D as a third side of a block.

    Returns
    -------
    Tensor of input's shape and dtype
        As of `drop_block2d`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `drop_block2d` does, with 5-D in place of 4-D.

    Examples
    --------
    >>> x = torch.ones(1, 8, 9, 9, 9)
    >>> y = fastdrop.functional.drop_block3d(x, 0.1, 3, seed=0)
    >>> round(y.mean().item(), 3)  # the scale is that of this mask
    1.0
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            drop_block3d, (input,), input, p, block_size, inplace, eps, training,
            seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    return _drop_blocks(DROP_BLOCK3D, 5, input, p, block_size, inplace, eps, training, seed, offset, generator)


@entry()
def _drop_blocks(
    variant: Variant, rank: int, input: torch.Tensor, p: float, block_size: int, inplace: bool, eps: float,
    training: bool, seed: Seed | None, offset: int, generator: torch.Generator | None,
) -> torch.Tensor:  # fmt: skip
    """Check the arguments of both forms, and call `drop_block`."""
    p = check_drop_probability(p, ".")
    eps = check_float(eps, "eps")
    chosen, offset = check_key(seed, offset, generator)
    if not isinstance(input, torch.Tensor) or not library.takes(input):
        return native.native(variant, input, p, inplace)  # raises
    if input.dim() != rank:
        raise ValueError(f"input should be {rank} dimensional. Got {input.dim()} dimensions.")
    if not training or p == 0.0:
        return input
    side = check_block_size(block_size, *input.shape[2:])
    if input.numel() == 0:
        return input
    return drop_block(input, p, side, inplace, eps, chosen, offset, generator)
