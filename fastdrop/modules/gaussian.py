"""Gaussian noise as modules, with the names of Keras."""

import torch

from fastdrop import functional
from fastdrop._checks import check_probability
from fastdrop.functional.gaussian import check_std
from fastdrop.modules.keyed import Keyed


class GaussianDropout(Keyed):
    """Multiply by N(1, p/(1-p)) in training, as `keras.layers.GaussianDropout` does; see `functional.gaussian_dropout`.

    Parameters
    ----------
    p : float in [0, 1)
        The probability of the dropout that this is like; Keras calls it rate.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1).

    Examples
    --------
    >>> layer = fastdrop.GaussianDropout(0.2)
    >>> y = layer(torch.ones(4), seed=7)  # the noise of (7, 0), on any machine
    """

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if check_probability(p) == 1.0:
            raise ValueError("GaussianDropout needs p below 1, as its noise has the variance p / (1 - p), but got 1.0")
        self.p, self.generator = p, generator

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return input times noise; seed and offset as in `functional.dropout`."""
        return functional.gaussian_dropout(input, self.p, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the parameters for print."""
        return f"p={self.p}"


class GaussianNoise(Keyed):
    """Add N(0, std**2) in training, as `keras.layers.GaussianNoise` does; see `functional.gaussian_noise`.

    Parameters
    ----------
    std : float, at least 0
        Standard deviation; Keras calls it stddev.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If std is negative or not finite.

    Examples
    --------
    >>> layer = fastdrop.GaussianNoise(0.1)
    >>> y = layer(torch.ones(4), seed=7)  # the noise of (7, 0), on any machine
    """

    def __init__(self, std: float, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.std, self.generator = check_std(std), generator

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return input plus noise; seed and offset as in `functional.dropout`."""
        return functional.gaussian_noise(input, self.std, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the parameters for print."""
        return f"std={self.std}"
