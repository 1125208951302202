"""Dropout of blocks of neighbouring elements, as modules."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_block_size, check_drop_probability, check_float, check_generator
from fastdrop.modules.keyed import Keyed


class DropBlock2d(Keyed):
    """Zero square blocks of each channel in training, as `torchvision.ops.DropBlock2d` does.

    See `functional.drop_block2d`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of an element being zeroed.
    block_size : odd int
        Side of a block.
    inplace : bool
        If True, the input is overwritten.
    eps : float
        Added to the number of elements that are kept, by which the result is divided.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1], or block_size is even or negative; at a call, if the input is not 4-D, or a side of it
        that is shorter than block_size is even.
    TypeError
        If block_size is no integer, eps no number, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.DropBlock2d(0.1, block_size=7)
    >>> y = layer(torch.ones(8, 16, 28, 28))
    """

    def __init__(
        self,
        p: float,
        block_size: int,
        inplace: bool = False,
        eps: float = 1e-6,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_drop_probability(p, ".")
        check_block_size(block_size)
        check_float(eps, "eps")
        self.p, self.block_size, self.inplace, self.eps = p, block_size, inplace, eps
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input with blocks dropped; seed and offset as in `functional.dropout`."""
        return functional.drop_block2d(
            input, self.p, self.block_size, self.inplace, self.eps, self.training, **self.key(seed, offset)
        )

    def extra_repr(self) -> str:
        """Return the arguments that torchvision shows."""
        return f"p={self.p}, block_size={self.block_size}, inplace={self.inplace}"


class DropBlock3d(DropBlock2d):
    """Zero cubic blocks of each channel in training, as `torchvision.ops.DropBlock3d` does.

    See `functional.drop_block3d`.

    Parameters
    ----------
    p, block_size, inplace, eps, generator
        As of `DropBlock2d`.

    Raises
    ------
    ValueError, TypeError
        As `DropBlock2d` does, with 5-D in place of 4-D.

    Examples
    --------
    >>> layer = fastdrop.DropBlock3d(0.1, block_size=3)
    >>> y = layer(torch.ones(2, 4, 9, 9, 9))
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input with blocks dropped; seed and offset as in `functional.dropout`."""
        return functional.drop_block3d(
            input, self.p, self.block_size, self.inplace, self.eps, self.training, **self.key(seed, offset)
        )
