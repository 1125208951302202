"""Dropout by one mask for all steps of a sequence, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_probability
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class VariationalDropout(Keyed):
    """Zero features of sequences, at all time steps at once, in training; `LockedDropout` of AWD-LSTM.

    Parameters as in `functional.variational_dropout`. `generator` is where this layer draws its seeds (default:
    torch's).

    Examples
    --------
    >>> fastdrop.VariationalDropout(0.5, batch_first=True)(torch.ones(1, 2, 4), seed=0)
    tensor([[[2., 0., 0., 0.],
             [2., 0., 0., 0.]]])
    """

    def __init__(
        self,
        p: float = 0.5,
        batch_first: bool = False,
        inplace: bool = False,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_probability(p)
        self.p, self.batch_first, self.inplace = p, batch_first, inplace
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.variational_dropout(
            input, self.p, self.training, self.inplace, batch_first=self.batch_first, **self.key(seed, offset)
        )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"p={self.p}, batch_first={self.batch_first}, inplace={self.inplace}"


LockedDropout = VariationalDropout  # its name in AWD-LSTM
