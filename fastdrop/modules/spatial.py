"""Dropout of whole channels as modules, under Keras's names and with its order of dimensions."""

from typing import ClassVar

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_data_format, check_generator, check_rate
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class _SpatialDropout(Keyed):
    """The common base of Keras's layers."""

    rank: ClassVar[int]  # of inputs

    def __init__(
        self, rate: float, data_format: str | None = None, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.rate, self.data_format = check_rate(rate), check_data_format(data_format)
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the dropout of input; seed and offset as in `functional.dropout`."""
        if input.dim() != self.rank:
            raise ValueError(
                f"Input of layer '{type(self).__name__}' is incompatible with the layer: expected ndim={self.rank}, "
                f"found ndim={input.dim()}. Full shape received: {tuple(input.shape)}"
            )
        shared = [1] * (self.rank - 2)
        noise = (None, None, *shared) if self.data_format == "channels_first" else (None, *shared, None)
        return functional.dropout(input, self.rate, self.training, noise_shape=noise, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return the layer's arguments."""
        return f"rate={self.rate}, data_format={self.data_format!r}"


class SpatialDropout1D(_SpatialDropout):
    """Zero channels of inputs (batch, steps, channels) in training, as `keras.layers.SpatialDropout1D`.

    Parameters
    ----------
    rate : float in [0, 1]
        Probability of a channel being zeroed; what is kept is scaled by 1/(1 - rate).
    generator : torch.Generator, optional
        Where this layer draws its seeds, in place of Keras's `seed`; default: torch's.

    Raises
    ------
    ValueError
        If rate is outside [0, 1]; at a call, also in eval mode, if the input has another number of dimensions.

    Examples
    --------
    >>> fastdrop.SpatialDropout1D(0.5)(torch.ones(1, 2, 3), seed=0)
    tensor([[[2., 0., 0.],
             [2., 0., 0.]]])
    """

    rank = 3

    def __init__(self, rate: float, *, generator: torch.Generator | None = None) -> None:
        super().__init__(rate, generator=generator)  # as in Keras, with channels last and no choice

    def extra_repr(self) -> str:
        """Return the layer's arguments."""
        return f"rate={self.rate}"


class SpatialDropout2D(_SpatialDropout):
    """Zero channels of inputs (batch, rows, columns, channels) in training, as `keras.layers.SpatialDropout2D`.

    Parameters
    ----------
    rate : float in [0, 1]
        Probability of a channel being zeroed; what is kept is scaled by 1/(1 - rate).
    data_format : {"channels_last", "channels_first"}, optional
        Which dimension the channels are; default: the last one.
    generator : torch.Generator, optional
        Where this layer draws its seeds, in place of Keras's `seed`; default: torch's.

    Raises
    ------
    ValueError
        If rate is outside [0, 1] or data_format another; at a call, also in eval mode, if the input has another number
        of dimensions.

    Examples
    --------
    >>> fastdrop.SpatialDropout2D(0.5)(torch.ones(1, 1, 2, 3), seed=0)
    tensor([[[[2., 0., 0.],
              [2., 0., 0.]]]])
    """

    rank = 4


class SpatialDropout3D(_SpatialDropout):
    """Zero channels of inputs (batch, depth, rows, columns, channels) in training, as `keras.layers.SpatialDropout3D`.

    Parameters and errors as of `SpatialDropout2D`.

    Examples
    --------
    >>> fastdrop.SpatialDropout3D(0.5)(torch.ones(1, 1, 1, 2, 3), seed=0)
    tensor([[[[[2., 0., 0.],
               [2., 0., 0.]]]]])
    """

    rank = 5
