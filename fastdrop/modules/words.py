"""Dropout of words before they are looked up, as a module."""

import torch

from fastdrop import functional
from fastdrop._keys.arguments import check_generator, check_probability, check_word
from fastdrop.modules.keyed import Keyed


class WordDropout(Keyed):
    """Replace each index of a word by another one with probability p in training; see `functional.word_dropout`.

    Parameters
    ----------
    p : float in [0, 1]
        Probability of an index being replaced.
    value : int
        What replaces it: the index of an unknown word, say.
    generator : torch.Generator, optional
        Where this layer's seeds are drawn; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1], or value no integer of 64 bits.
    TypeError
        If p is no number, value no integer, or generator no torch.Generator.

    Examples
    --------
    >>> layer = fastdrop.WordDropout(0.3, value=1)
    >>> words = torch.tensor([[5, 6, 7]])
    >>> y = layer(words)
    >>> y = layer(words, seed=7, offset=step)  # the mask of (7, step), on any machine
    """

    def __init__(self, p: float, value: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p, self.value = check_probability(p), check_word(value)
        self.generator = check_generator(generator)

    def forward(self, input: torch.Tensor, *, seed: int | torch.Tensor | None = None, offset: int = 0) -> torch.Tensor:
        """Return the indices, some replaced; seed and offset as in `functional.word_dropout`."""
        return functional.word_dropout(input, self.p, self.value, self.training, **self.key(seed, offset))

    def extra_repr(self) -> str:
        """Show p and value."""
        return f"p={self.p}, value={self.value}"
