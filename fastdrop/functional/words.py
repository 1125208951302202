"""Dropout of words before they are looked up."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._keys.arguments import check_key, check_probability, check_word, shown
from fastdrop._keys.key import Seed
from fastdrop._ops import masks
from fastdrop._ops.entries import entry


def word_dropout(
    input: torch.Tensor, p: float, value: int, training: bool = True, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Replace each index of a word by `value`, for instance that of an unknown word, with probability p.

    Parameters
    ----------
    input : Tensor of integers, of any shape
        Indices of words. Each occurrence has a draw of its own; `embedding_dropout` drops all occurrences of a word.
    p : float in [0, 1]
        Probability of an index being replaced.
    value : int
        What replaces it.
    training : bool
        If False, `input` itself is returned.
    seed, offset, generator
        The key of the mask, as in `functional.dropout`: an index stays where
        `dropout_mask(input.shape, p, seed=seed, offset=offset)` is True, whatever input's strides.

    Returns
    -------
    Tensor of input's shape and dtype
        `input` itself where nothing is to be done: in eval mode and at p = 0.

    Raises
    ------
    ValueError
        If p is outside [0, 1], value no integer of 64 bits, seed or offset outside [0, 2**64), or if seed and generator
        are both given.
    TypeError
        If input is no tensor of integers, or value, seed or offset is no integer.
    RuntimeError
        Torch's, where input's dtype does not hold value.

    Examples
    --------
    >>> words = torch.tensor([[5, 6, 7, 8]])
    >>> fastdrop.functional.word_dropout(words, 0.5, value=1, seed=0)
    tensor([[5, 1, 1, 1]])

    Notes
    -----
    Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification" (ACL 2015); Bowman et
    al., "Generating sentences from a continuous space" (CoNLL 2016), who put an unknown word where one is dropped.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            word_dropout, (input,), input, p, value, training, seed=seed, offset=offset, generator=generator
        )
    p, value = check_probability(p), check_word(value)
    chosen, offset = check_key(seed, offset, generator)
    if not isinstance(input, torch.Tensor):
        raise TypeError(f"word_dropout needs a tensor of integers, but got {shown(input)}")
    if input.is_floating_point() or input.is_complex() or input.dtype is torch.bool:
        raise TypeError(f"word_dropout needs a tensor of integers, but got {input.dtype}")
    return _replaced(input, p, value, training, chosen, offset, generator)


@entry("word_dropout")
def _replaced(
    input: torch.Tensor, p: float, value: int, training: bool, seed: Seed | None, offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:  # fmt: skip
    """Return words, those that are dropped replaced by a value; arguments are checked."""
    if not training or p == 0.0:
        return input
    return torch.where(masks.mask(input, input.shape, p, seed, offset, generator), input, value)
