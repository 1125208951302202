"""Dropout of blocks of neighbouring elements, as modules."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_block_size, check_drop_probability, check_float, check_generator
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class DropBlock2d(Keyed):
    """Zero square blocks of each channel in training, as `torchvision.ops.DropBlock2d`.

    Parameters as in `functional.drop_block2d`. `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1], or block_size is even or negative.
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

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input with blocks dropped; seed and offset as in `functional.dropout`."""
        return functional.drop_block2d(
            input, self.p, self.block_size, self.inplace, self.eps, self.training, **self.key(seed, offset)
        )

    def extra_repr(self) -> str:
        """Return the arguments that torchvision shows."""
        return f"p={self.p}, block_size={self.block_size}, inplace={self.inplace}"


class DropBlock3d(DropBlock2d):
    """Zero cubic blocks of each channel in training, as `torchvision.ops.DropBlock3d`.

    Parameters as in `functional.drop_block3d`; errors as of `DropBlock2d`.

    Examples
    --------
    >>> y = fastdrop.DropBlock3d(0.1, block_size=3)(torch.ones(2, 4, 9, 9, 9))
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input with blocks dropped; seed and offset as in `functional.dropout`."""
        return functional.drop_block3d(
            input, self.p, self.block_size, self.inplace, self.eps, self.training, **self.key(seed, offset)
        )
