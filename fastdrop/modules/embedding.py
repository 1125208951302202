"""Dropout of whole words of an embedding, as a module."""

from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from fastdrop._keys.arguments import check_probability
from fastdrop._keys.key import Seed
from fastdrop.functional.embedding import drop_words
from fastdrop.modules.wrapper import Wrapper


class EmbeddingDropout(Wrapper):
    """Look words up in an embedding, of which whole words are dropped in training; see `functional.embedding_dropout`.

    The state_dict is the embedding's own, with the key `weight`, as if it were not wrapped.

    Parameters
    ----------
    embedding : torch.nn.Embedding
        The embedding, or a module around one, which becomes the attribute `wrapped`. It is called as it is: with its
        padding_idx, max_norm, scale_grad_by_freq, sparse and hooks, and with a subclass's forward.
    p, generator
        As in `functional.embedding_dropout`; `generator` is where this layer draws its seeds (default: torch's).

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    TypeError
        If embedding is no torch.nn.Embedding.

    Examples
    --------
    >>> layer = fastdrop.EmbeddingDropout(torch.nn.Embedding(1000, 16), p=0.5)
    >>> layer(torch.tensor([0, 1, 0]), seed=0).any(-1)
    tensor([ True, False,  True])
    """

    p: float = 0.5

    def __init__(
        self, embedding: torch.nn.Embedding, p: float = 0.5, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(embedding, generator)
        self.p = check_probability(p)

    def _check(self, wrapped: Any) -> None:
        if not isinstance(wrapped, torch.nn.Module) or _embedding(wrapped) is None:
            raise TypeError(f"EmbeddingDropout needs a torch.nn.Embedding, but got {type(wrapped).__name__}")

    def forward(self, input: torch.Tensor, *, seed: Seed | None = None, offset: int = 0) -> torch.Tensor:
        """Return the words' rows; seed and offset as in `functional.embedding_dropout`."""
        embedding = _embedding(self.wrapped)
        if embedding.max_norm is not None:
            input = input.contiguous()  # see `functional.embedding_dropout`
        rows = self.wrapped(input)
        key = self.key(seed, offset)
        return drop_words(rows, input, _vocabulary(embedding), check_probability(self.p), self.training, **key)

    def extra_repr(self) -> str:
        """Show the embedding and p."""
        return f"{super().extra_repr()}, p={self.p}"


def _embedding(module: torch.nn.Module) -> Any:
    """Return the embedding that a module is or, if it was replaced by a wrapper, contains."""
    if isinstance(module, torch.nn.Embedding):
        return module
    return next((child for child in module.modules() if isinstance(child, torch.nn.Embedding)), None)


def _vocabulary(embedding: torch.nn.Embedding) -> int:
    """Return the number of words that a mask is made for; a word's own mask does not depend on it."""
    if is_parametrized(embedding, "weight"):  # it would be computed
        return embedding.num_embeddings
    return max(
        embedding.num_embeddings, embedding.weight.shape[0]
    )  # the weight may have been replaced; or be sharded and empty
