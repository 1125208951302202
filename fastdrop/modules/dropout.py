"""Dropout of single elements, or by a mask that is broadcast, as a module."""

from collections.abc import Sequence

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_noise_sizes
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class Dropout(torch.nn.Dropout, Keyed):
    """Zero elements of the input with probability p in training, as `torch.nn.Dropout`.

    Parameters as in `functional.dropout`. `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1], or an entry of noise_shape is negative.
    TypeError
        If noise_shape is no sequence of integers and None, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.Dropout(0.5, generator=torch.Generator().manual_seed(3))
    >>> y = layer(x)
    >>> layer(torch.ones(4), seed=0)  # the mask of this key, on any machine
    tensor([2., 0., 0., 0.])
    """

    noise_shape: Sequence[int | None] | None = None  # of the class, so that `replace` finds nothing missing

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: Sequence[int | None] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p, inplace)
        self.noise_shape = None if noise_shape is None else check_noise_sizes(noise_shape)
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        generator = self.generator if seed is None else None  # not by self.key(), which costs 0.4 microseconds
        return functional.dropout(
            input, self.p, self.training, self.inplace,
            noise_shape=self.noise_shape, seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
