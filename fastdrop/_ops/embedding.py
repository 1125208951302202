"""Words dropped from the rows that an embedding looked up: a backward makes their mask again, and keeps none of it.

Where autograd itself looks inside, as under torch.func, it keeps a byte a word of the batch.
"""

import functools
from typing import Any

import torch
from torch._C import _are_functorch_transforms_active
from torch.compiler import is_dynamo_compiling

from fastdrop._keys.key import Seed
from fastdrop._ops import decompose, masked_scale, masks
from fastdrop._ops.autograd import is_recorded
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.variants import DROPOUT
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
        return drop(grad_output, words, ctx.key), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """Mask and scale the tangent."""
        (words,) = ctx.saved_tensors
        return drop(tangent, words, ctx.key)


_apply: Any = super(torch.autograd.Function, DroppedWordsFunction).apply  # binds no inspect.signature


def drop(rows: torch.Tensor, words: torch.Tensor, key: WordsKey) -> torch.Tensor:
    """Return rows scaled where their words are kept, else +0."""
    if is_recorded(rows) and not (is_dynamo_compiling() or _are_functorch_transforms_active()):
        return _apply(rows, words, key)  # type: ignore[no-any-return]
    return _run(rows, words, key)


def decomposed(rows: torch.Tensor, words: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    """Return the same for a mask of the vocabulary, (words, 1), by torch's operators."""
    return decompose.apply(DROPOUT.formula, rows, torch.nn.functional.embedding(words, kept), p)


def _run(rows: torch.Tensor, words: torch.Tensor, key: WordsKey) -> torch.Tensor:
    vocabulary, p, seed, offset = key
    kept = masks.mask(rows, (vocabulary, 1), p, seed, offset, None)
    if not masked_scale.takes(rows):
        return decomposed(rows, words, kept, p)
    return masked_scale.apply_rows(rows, torch.embedding(kept, words), _scale(p, rows.dtype))


@functools.lru_cache
def _scale(p: float, dtype: torch.dtype) -> float:
    return float(FORMULAS[DROPOUT.formula].factors(p, decompose.compute_of(dtype))[0])
