"""Dropouts as modules, each a drop-in for torch.nn's of the same name."""

import torch

from fastdrop import functional

__all__ = ["Dropout"]


class Dropout(torch.nn.Dropout):
    """Zero elements of the input with probability p in training, as `torch.nn.Dropout` does; see `functional.dropout`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of an element being zeroed.
    inplace : bool
        If True, the input is overwritten.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1].

    Examples
    --------
    >>> layer = fastdrop.Dropout(0.1)
    >>> y = layer(x)
    >>> y = layer(x, seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    generator: torch.Generator | None = None  # of the class, so that `replace` finds nothing missing

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: torch.Generator | None = None) -> None:
        super().__init__(p, inplace)
        self.generator = generator

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        generator = self.generator if seed is None else None
        return functional.dropout(
            input, self.p, self.training, self.inplace, seed=seed, offset=offset, generator=generator
        )
