"""Dropout of whole channels as modules, under torch's names."""

import torch

from fastdrop import functional
from fastdrop.modules.keyed import KeyedDropoutNd


class Dropout1d(torch.nn.Dropout1d, KeyedDropoutNd):
    """Zero channels of inputs (N, C, L) or (C, L) in training, as `torch.nn.Dropout1d` does.

    See `functional.dropout1d`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of a channel being zeroed.
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
    >>> layer = fastdrop.Dropout1d(0.2)
    >>> y = layer(torch.ones(1, 3, 2))
    >>> y = layer(torch.ones(1, 3, 2), seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout1d(input, self.p, self.training, self.inplace, **self.key(seed, offset))


class Dropout2d(torch.nn.Dropout2d, KeyedDropoutNd):
    """Zero channels of inputs (N, C, H, W) in training, as `torch.nn.Dropout2d` does.

    See `functional.dropout2d`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of a channel being zeroed.
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
    >>> layer = fastdrop.Dropout2d(0.2)
    >>> y = layer(torch.ones(1, 3, 4, 4))
    >>> y = layer(torch.ones(1, 3, 4, 4), seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout2d(input, self.p, self.training, self.inplace, **self.key(seed, offset))


class Dropout3d(torch.nn.Dropout3d, KeyedDropoutNd):
    """Zero channels of inputs (N, C, D, H, W) or (C, D, H, W) in training, as `torch.nn.Dropout3d` does.

    See `functional.dropout3d`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of a channel being zeroed.
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
    >>> layer = fastdrop.Dropout3d(0.2)
    >>> y = layer(torch.ones(1, 3, 4, 4, 4))
    >>> y = layer(torch.ones(1, 3, 4, 4, 4), seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout3d(input, self.p, self.training, self.inplace, **self.key(seed, offset))
