"""Dropout of whole rows of a batch, or of a whole batch, as modules."""

from typing import Final

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_drop_probability, check_generator, check_mode, check_probability
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Default, Keyed, one_of, second_name

DEFAULT: Final = Default(0.0)  # of DropPath, as in timm


class DropPath(Keyed):
    """Zero rows of a batch with probability p in training, as `timm.layers.DropPath`.

    Parameters as in `functional.drop_path`; `drop_prob`, timm's name of p, sets the same attribute. `generator` is
    where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    TypeError
        If p is no number or given under both names, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.DropPath(drop_prob=0.5)
    >>> layer(torch.ones(3, 2), seed=0)
    tensor([[2., 2.],
            [0., 0.],
            [0., 0.]])
    """

    drop_prob: float = second_name("p")

    def __init__(
        self,
        p: float = DEFAULT,
        scale_by_keep: bool = True,
        *,
        drop_prob: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.p = one_of(p=p, drop_prob=drop_prob)
        check_probability(self.p)
        self.scale_by_keep, self.generator = scale_by_keep, check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input with rows dropped; seed and offset as in `functional.dropout`."""
        return functional.drop_path(input, self.p, self.training, self.scale_by_keep, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return p as timm shows it."""
        return f"drop_prob={self.p:0.3f}"


class StochasticDepth(Keyed):
    """Zero a batch or its rows with probability p in training, as `torchvision.ops.StochasticDepth`.

    Parameters as in `functional.stochastic_depth`. `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1], or mode is neither "batch" nor "row".
    TypeError
        If p is no number, or generator no torch.Generator.

    Examples
    --------
    >>> fastdrop.StochasticDepth(0.5, "row")(torch.ones(3, 1), seed=0).T
    tensor([[2., 0., 0.]])
    """

    def __init__(self, p: float, mode: str, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        check_drop_probability(p)
        self.p, self.mode, self.generator = p, check_mode(mode), check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the input, zeroed or not; seed and offset as in `functional.dropout`."""
        return functional.stochastic_depth(input, self.p, self.mode, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Return p and mode as torchvision shows them."""
        return f"p={self.p}, mode={self.mode}"
