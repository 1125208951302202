"""Dropout by one mask for all steps of a sequence, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_probability
from fastdrop.modules.keyed import Keyed


class VariationalDropout(Keyed):
    """Zero features of sequences, at all time steps at once, in training; see `functional.variational_dropout`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of a feature being zeroed.
    batch_first : bool
        If True, inputs are (N, T, C), else (T, N, C); a 2-D input is (T, C) in both cases.
    inplace : bool
        If True, the input is overwritten.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1]; at a call, if the input is not 2-D or 3-D.

    Examples
    --------
    >>> layer = fastdrop.VariationalDropout(0.3, batch_first=True)
    >>> y = layer(torch.ones(8, 20, 16))
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

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.variational_dropout(
            input, self.p, self.training, self.inplace, batch_first=self.batch_first, **self.key(seed, offset)
        )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"p={self.p}, batch_first={self.batch_first}, inplace={self.inplace}"


LockedDropout = VariationalDropout  # its name in AWD-LSTM
