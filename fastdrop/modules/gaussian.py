"""Gaussian noise as modules, with the names of Keras."""

from typing import Final

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_below_1, check_generator, check_std
from fastdrop.modules.keyed import Default, Keyed, one_of, second_name

DEFAULT: Final = Default(0.5)  # of GaussianDropout, as of all of torch's


class GaussianDropout(Keyed):
    """Multiply by N(1, p/(1-p)) in training, as `keras.layers.GaussianDropout` does; see `functional.gaussian_dropout`.

    Parameters
    ----------
    p : float in [0, 1)
        The probability of the dropout that this is like.
    rate : float, optional
        Keras's name of p, under which it can be given, read and set too.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1).
    TypeError
        If p is no number or given under both names, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.GaussianDropout(0.2)
    >>> y = layer(torch.ones(4), seed=7)  # the noise of (7, 0), on any machine
    """

    rate: float = second_name("p")

    def __init__(
        self, p: float = DEFAULT, *, rate: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.p = one_of(p=p, rate=rate)
        check_below_1(self.p, "GaussianDropout")
        self.generator = check_generator(generator)

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
        Standard deviation.
    stddev : float, optional
        Keras's name of std, under which it can be given, read and set too.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If std is negative or not finite.
    TypeError
        If std is no number, or given under both names or none, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.GaussianNoise(0.1)
    >>> y = layer(torch.ones(4), seed=7)  # the noise of (7, 0), on any machine
    """

    stddev: float = second_name("std")

    def __init__(
        self, std: float | None = None, *, stddev: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.std = check_std(one_of(std=std, stddev=stddev))
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return input plus noise; seed and offset as in `functional.dropout`."""
        return functional.gaussian_noise(input, self.std, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the parameters for print."""
        return f"std={self.std}"
