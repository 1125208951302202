"""Dropout of words before they are looked up, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_probability, check_word
from fastdrop._keys.key import Seed
from fastdrop.modules.keyed import Keyed


class WordDropout(Keyed):
    """Replace indices of words by `value` with probability p in training.

    Parameters and errors as in `functional.word_dropout`. `generator` is where this layer draws its seeds (default:
    torch's).

    Examples
    --------
    >>> fastdrop.WordDropout(0.5, value=1)(torch.tensor([5, 6, 7, 8]), seed=0)
    tensor([5, 1, 1, 1])
    """

    def __init__(self, p: float, value: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p, self.value = check_probability(p), check_word(value)
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the indices, some replaced; seed and offset as in `functional.word_dropout`."""
        return functional.word_dropout(input, self.p, self.value, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Show p and value."""
        return f"p={self.p}, value={self.value}"
