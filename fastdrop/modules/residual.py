"""Dropout together with what stands beside it in a residual block, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import KeyedDropoutNd


class DropoutAdd(KeyedDropoutNd):
    """Return residual + dropout(input) in one pass, in eval mode input + residual.

    Parameters as in `functional.dropout_add`. `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    TypeError
        If generator is no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.DropoutAdd(0.1)
    >>> y = layer(torch.ones(2, 3), torch.zeros(2, 3))
    """

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__(p, generator=generator)

    def forward(
        self, input: torch.Tensor, residual: torch.Tensor, *, seed: Seed | None = None, offset: int = 0
    ) -> torch.Tensor:
        """Return the sum; seed and offset as in `functional.dropout`."""
        return functional.dropout_add(input, residual, self.p, self.training, **self.key(seed, offset))
