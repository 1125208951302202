"""Gaussian noise as modules, with the names of Keras."""

from typing import Final

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_below_1, check_generator, check_std
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Default, Keyed, one_of, second_name

DEFAULT: Final = Default(0.5)  # of GaussianDropout, as of all of torch's


class GaussianDropout(Keyed):
    """Multiply by N(1, p/(1-p)) in training, as `keras.layers.GaussianDropout`.

    Parameters as in `functional.gaussian_dropout`; `rate`, Keras's name of p, sets the same attribute. `generator` is
    where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1).
    TypeError
        If p is no number or given under both names, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.GaussianDropout(rate=0.2)
    >>> layer.p, round(layer(torch.ones(100_000), seed=0).std().item(), 2)
    (0.2, 0.5)
    """

    rate: float = second_name("p")

    def __init__(
        self, p: float = DEFAULT, *, rate: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.p = one_of(p=p, rate=rate)
        check_below_1(self.p, "GaussianDropout")
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return input times noise; seed and offset as in `functional.dropout`."""
        return functional.gaussian_dropout(input, self.p, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the parameters for print."""
        return f"p={self.p}"


class GaussianNoise(Keyed):
    """Add N(0, std**2) in training, as `keras.layers.GaussianNoise`.

    Parameters as in `functional.gaussian_noise`; `stddev`, Keras's name of std, sets the same attribute. `generator` is
    where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If std is negative or not finite.
    TypeError
        If std is no number, or given under both names or none, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.GaussianNoise(stddev=2.0)
    >>> layer.std, round(layer(torch.zeros(100_000), seed=0).std().item(), 1)
    (2.0, 2.0)
    """

    stddev: float = second_name("std")

    def __init__(
        self, std: float | None = None, *, stddev: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.std = check_std(one_of(std=std, stddev=stddev))
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return input plus noise; seed and offset as in `functional.dropout`."""
        return functional.gaussian_noise(input, self.std, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the parameters for print."""
        return f"std={self.std}"
