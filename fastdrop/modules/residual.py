"""Dropout together with what stands beside it in a residual block, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_probability
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class DropoutAdd(Keyed):
    """Return residual + dropout(input) in one pass, in eval mode input + residual.

    Parameters as in `functional.dropout_add`. `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    TypeError
        If p is no number, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.DropoutAdd(0.1)
    >>> y = layer(torch.ones(2, 3), torch.zeros(2, 3))
    """

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p = check_probability(p)
        self.generator = check_generator(generator)

    def forward(
        self, input: torch.Tensor, residual: torch.Tensor, *, seed: Seed | None = None, offset: int = 0
    ) -> torch.Tensor:
        """Return the sum; seed and offset as in `functional.dropout`."""
        return functional.dropout_add(input, residual, self.p, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Show p."""
        return f"p={self.p}"
