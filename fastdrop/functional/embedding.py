"""Dropout of whole words of an embedding."""

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastdrop._keys.arguments import check_key, check_probability
from fastdrop._keys.key import Seed
from fastdrop._ops import embedding
from fastdrop._ops.entries import entry


def embedding_dropout(
    input: torch.Tensor, weight: torch.Tensor, p: float = 0.5, training: bool = True, padding_idx: int | None = None,
    max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False, *,
    seed: Seed | None = None, offset: int = 0, generator: torch.Generator | None = None,
) -> torch.Tensor:  # fmt: skip
    """Look words up in an embedding of which whole words are dropped, with probability p each.

    All occurrences of a word are either 0 or the word's row scaled by 1/(1-p). Rows are looked up first and then
    dropped, so the weight is never copied.

    Parameters
    ----------
    input : int32 or int64 Tensor of any shape
        Indices of words.
    weight : Tensor of shape (words, dim)
        The embedding: floating point or complex.
    p : float in [0, 1]
        Probability of a word being dropped.
    training : bool
        If False, this is `torch.nn.functional.embedding`.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        As in `torch.nn.functional.embedding`. The row of padding_idx drops and scales like any other.
    seed, offset, generator
        The key of the mask, as in `functional.dropout`: word r is kept where
        `dropout_mask(words, p, seed=seed, offset=offset)[r]` is True.

    Returns
    -------
    Tensor of shape (*input.shape, dim)
        A dropped row is +0 whatever it was, NaN and infinity too, and gets no gradient.

    Raises
    ------
    ValueError
        If p is outside [0, 1], seed or offset outside [0, 2**64), or if seed and generator are both given.
    TypeError
        If seed or offset is no integer, or weight is one of integers.
    IndexError, RuntimeError
        Torch's, for indices of other dtypes or beyond the weight.

    Examples
    --------
    >>> words, weight = torch.tensor([0, 3, 0]), torch.ones(4, 2)
    >>> fastdrop.functional.embedding_dropout(words, weight, 0.5, seed=0)
    tensor([[2., 2.],
            [0., 0.],
            [2., 2.]])

    Notes
    -----
    Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks" (NeurIPS 2016), as
    in AWD-LSTM (Merity et al. 2017), which multiplies the whole weight. Here the mask takes one byte for each
    word of the vocabulary during the call, and again during the backward, for which only the key is saved.
    """
    if has_torch_function_variadic(input, weight):
        return handle_torch_function(
            embedding_dropout, (input, weight), input, weight, p, training,
            padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
            seed=seed, offset=offset, generator=generator,
        )  # fmt: skip
    p = check_probability(p)
    if max_norm is not None:
        input = input.contiguous()  # as in torch's function: what that keeps for the backward is the same tensor then
    rows = torch.nn.functional.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    return drop_words(rows, input, weight.shape[0], p, training, seed, offset, generator)


@entry("embedding_dropout")
def drop_words(
    rows: torch.Tensor, words: torch.Tensor, vocabulary: int, p: float, training: bool, seed: Seed | None,
    offset: int, generator: torch.Generator | None,
) -> torch.Tensor:  # fmt: skip
    """Return the rows that were looked up for words of a vocabulary, with dropped words zeroed; p is checked."""
    chosen, offset = check_key(seed, offset, generator)
    if not training or p == 0.0:
        return rows
    if not (rows.is_floating_point() or rows.is_complex()):
        raise TypeError(f"embedding_dropout needs a weight of floating point or complex numbers, but got {rows.dtype}")
    return embedding.drop(rows, words, vocabulary, p, chosen, offset, generator)
