"""Dropout of whole channels as modules, under torch's names."""

import torch

from fastdrop import functional
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import KeyedDropoutNd


class Dropout1d(torch.nn.Dropout1d, KeyedDropoutNd):
    """Zero whole channels in training, as `torch.nn.Dropout1d`.

    Parameters as in `functional.dropout1d`. `generator` is where this layer draws its seeds (default: torch's).

    Examples
    --------
    >>> fastdrop.Dropout1d(0.5)(torch.ones(1, 3, 2), seed=0).flatten(2).amax(2)
    tensor([[2., 0., 0.]])
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout1d(input, self.p, self.training, self.inplace, **self.key(seed, offset))


class Dropout2d(torch.nn.Dropout2d, KeyedDropoutNd):
    """Zero whole channels in training, as `torch.nn.Dropout2d`.

    Parameters as in `functional.dropout2d`. `generator` is where this layer draws its seeds (default: torch's).

    Examples
    --------
    >>> fastdrop.Dropout2d(0.5)(torch.ones(1, 3, 4, 4), seed=0).flatten(2).amax(2)
    tensor([[2., 0., 0.]])
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout2d(input, self.p, self.training, self.inplace, **self.key(seed, offset))


class Dropout3d(torch.nn.Dropout3d, KeyedDropoutNd):
    """Zero whole channels in training, as `torch.nn.Dropout3d`.

    Parameters as in `functional.dropout3d`. `generator` is where this layer draws its seeds (default: torch's).

    Examples
    --------
    >>> fastdrop.Dropout3d(0.5)(torch.ones(1, 3, 4, 4, 4), seed=0).flatten(2).amax(2)
    tensor([[2., 0., 0.]])
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        return functional.dropout3d(input, self.p, self.training, self.inplace, **self.key(seed, offset))
