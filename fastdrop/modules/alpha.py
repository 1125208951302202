"""Alpha dropout as modules: of single elements and of whole channels."""

import torch

from fastdrop import functional
from fastdrop.modules.keyed import KeyedDropoutNd


class AlphaDropout(torch.nn.AlphaDropout, KeyedDropoutNd):
    """Drop elements to SELU's lower limit in training, as `torch.nn.AlphaDropout` does; see `functional.alpha_dropout`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of an element being dropped.
    inplace : bool
        Of no effect, as in torch.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1].

    Examples
    --------
    >>> layer = fastdrop.AlphaDropout(0.1)
    >>> y = layer(x)
    >>> y = layer(x, seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the alpha dropout of input; seed and offset as in `functional.dropout`."""
        return functional.alpha_dropout(input, self.p, self.training, **self.key(seed, offset))


class FeatureAlphaDropout(torch.nn.FeatureAlphaDropout, KeyedDropoutNd):
    """Drop channels of inputs (N, C, ...) to SELU's lower limit in training, as `torch.nn.FeatureAlphaDropout` does.

    See `functional.feature_alpha_dropout`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of a channel being dropped.
    inplace : bool
        Of no effect, as in torch.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1].

    Examples
    --------
    >>> layer = fastdrop.FeatureAlphaDropout(0.1)
    >>> y = layer(torch.ones(1, 3, 4, 4))
    >>> y = layer(torch.ones(1, 3, 4, 4), seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the alpha dropout of input; seed and offset as in `functional.dropout`."""
        return functional.feature_alpha_dropout(input, self.p, self.training, **self.key(seed, offset))
