"""Alpha dropout as modules: of single elements and of whole channels."""

import torch

from fastdrop import functional
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import KeyedDropoutNd


class AlphaDropout(torch.nn.AlphaDropout, KeyedDropoutNd):
    """Alpha dropout in training, as `torch.nn.AlphaDropout`.

    Parameters as in `functional.alpha_dropout`; `inplace` has no effect, as in torch. `generator` is where this layer
    draws its seeds (default: torch's).

    Examples
    --------
    >>> fastdrop.AlphaDropout(0.5)(torch.zeros(4), seed=0)
    tensor([ 0.7792, -0.7792, -0.7792, -0.7792])
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the alpha dropout of input; seed and offset as in `functional.dropout`."""
        return functional.alpha_dropout(input, self.p, self.training, **self.key(seed, offset))


class FeatureAlphaDropout(torch.nn.FeatureAlphaDropout, KeyedDropoutNd):
    """Alpha dropout of whole channels in training, as `torch.nn.FeatureAlphaDropout`.

    Parameters as in `functional.feature_alpha_dropout`, and as in `AlphaDropout`.

    Examples
    --------
    >>> fastdrop.FeatureAlphaDropout(0.5)(torch.zeros(1, 3, 2), seed=0)[0, :, 0]
    tensor([ 0.7792, -0.7792, -0.7792])
    """

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the alpha dropout of input; seed and offset as in `functional.dropout`."""
        return functional.feature_alpha_dropout(input, self.p, self.training, **self.key(seed, offset))
