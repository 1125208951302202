"""Dropout together with what stands beside it in a residual block."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastdrop._keys.arguments import check_probability
from fastdrop._keys.key import Seed
from fastdrop._ops.join import join
from fastdrop._ops.variants import DROPOUT_ADD


def dropout_add(
    input: torch.Tensor,
    residual: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: Seed | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Return residual + dropout(input), in one pass.

    Nothing is saved for the backward: the gradient of the residual is grad_output itself, and that of input is masked
    and scaled by the same key.

    Parameters
    ----------
    input : Tensor of any shape
        What drops; the dtypes and devices that `dropout` has kernels for, else it is composed of torch's operators.
    residual : Tensor of input's shape, dtype and device
        What the dropped input is added to. It is not broadcast.
    p, training, seed, offset, generator
        As in `dropout`, which has the same mask for the same key.

    Returns
    -------
    Tensor of input's shape, dtype and (dense) strides
        Where input is dropped, the residual, whatever input was there. The sum is rounded once, where two operators
        would round the scaled input first. In eval mode and at p = 0: input + residual.

    Raises
    ------
    ValueError
        If input and residual differ in shape, dtype or device; for a bad p or key as in `dropout`.
    TypeError
        If one of the two is no strided tensor; for a bad key as in `dropout`.

    Examples
    --------
    >>> x, residual = torch.ones(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> fastdrop.functional.dropout_add(x, residual, 0.5, seed=0)
    tensor([3., 2., 3., 4.])

    Notes
    -----
    The residual connections of He et al., "Deep residual learning for image recognition" (CVPR 2016), with dropout as
    in Vaswani et al., "Attention is all you need" (NeurIPS 2017), section 5.4.
    """
    if has_torch_function_variadic(input, residual):
        return handle_torch_function(
            dropout_add, (input, residual), input, residual, p, training, seed=seed, offset=offset, generator=generator
        )
    return join(DROPOUT_ADD, input, residual, check_probability(p), training, seed, offset, generator)
