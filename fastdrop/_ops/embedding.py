"""Words dropped from the rows that an embedding looked up: a backward makes their mask again, and keeps none of it.

Where autograd itself looks inside, as under torch.func, it keeps a byte a word of the batch.
"""

import functools
from typing import Any

import torch

from fastdrop._keys.key import Seed
from fastdrop._ops import decompose, masked_scale, masks
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.modes import in_graph, in_trace, in_transform, is_compiling, is_recorded
from fastdrop._ops.resolve import resolve
from fastdrop._ops.variants import EMBEDDING_DROPOUT
from fastdrop_kernels.formulas import FORMULAS

WordsKey = tuple[int, float, Seed, int]  # vocabulary, p, seed, offset: all that the mask of a vocabulary depends on


@dynamo_skip
class DroppedWordsFunction(torch.autograd.Function):
    """Rows scaled where their words are kept, else +0, and the same of gradient and tangent.

    It keeps the key, and the very tensor of words that torch's embedding keeps.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, words: torch.Tensor, key: WordsKey) -> torch.Tensor:
        """Return rows, masked and scaled."""
        ctx.key = key
        ctx.save_for_backward(words)
        ctx.save_for_forward(words)
        return _run(rows, words, key)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Mask and scale the gradient."""
        (words,) = ctx.saved_tensors
        return _drop(grad_output, words, ctx.key), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        (words,) = ctx.saved_tensors
        return _drop(tangent, words, ctx.key)


_apply: Any = super(torch.autograd.Function, DroppedWordsFunction).apply  # binds no inspect.signature


def drop(
    rows: torch.Tensor,
    words: torch.Tensor,
    vocabulary: int,
    p: float,
    seed: Seed | None,
    offset: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return the rows that words of a vocabulary were looked up to, scaled where their words are kept, else +0."""
    is_of_words = rows.shape[:-1] == words.shape  # unless an embedding of a user's has another idea
    if in_graph() or in_trace() or in_transform() or not is_of_words:
        return _decomposed(rows, words, masks.mask(rows, (vocabulary, 1), p, seed, offset, generator), p)
    return _drop(rows, words, (vocabulary, p, resolve(rows, seed, generator), offset))


def _drop(rows: torch.Tensor, words: torch.Tensor, key: WordsKey) -> torch.Tensor:
    if is_recorded(rows) and not (is_compiling() or in_transform()):
        return _apply(rows, words, key)  # type: ignore[no-any-return]
    return _run(rows, words, key)


def _decomposed(rows: torch.Tensor, words: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    """Return the same for a mask of the vocabulary, (words, 1), by torch's operators."""
    return decompose.apply(EMBEDDING_DROPOUT.formula, rows, torch.nn.functional.embedding(words, kept), p)


def _run(rows: torch.Tensor, words: torch.Tensor, key: WordsKey) -> torch.Tensor:
    vocabulary, p, seed, offset = key
    kept = masks.mask(rows, (vocabulary, 1), p, seed, offset, None)
    if not masked_scale.takes(rows):
        return _decomposed(rows, words, kept, p)
    return masked_scale.apply_rows(rows, torch.embedding(kept, words), _scale(p, rows.dtype))


@functools.lru_cache
def _scale(p: float, dtype: torch.dtype) -> float:
    return float(FORMULAS[EMBEDDING_DROPOUT.formula].factors(p, decompose.compute_of(dtype))[0])
