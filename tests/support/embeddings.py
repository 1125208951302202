"""Words and embeddings, the mask of a vocabulary from the stream's reference, and what autograd keeps of a lookup."""

from collections.abc import Callable
from typing import Any

import oracle
import torch
from mask_reference import keep_mask
from torch.nn.functional import embedding

P, SEED, OFFSET, WORDS, DIM = 0.3, 2**63 + 11, 5, 50, 6


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal numbers; complex ones have an imaginary part."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=generator)
    return torch.complex(x, torch.randn(shape, generator=generator)).to(dtype) if dtype.is_complex else x.to(dtype)


def indices(*shape: int, words: int = WORDS) -> torch.Tensor:
    """Return words by chance."""
    return torch.randint(words, shape, generator=torch.Generator().manual_seed(3))


def kept_words(seed: int = SEED, offset: int = OFFSET, p: float = P, words: int = WORDS) -> torch.Tensor:
    """Return the mask of a vocabulary."""
    return torch.from_numpy(keep_mask(torch.arange(words).numpy(), p, seed, offset))


def composed(words: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor, p: float = P, **options: Any):
    """Return the rows of words by torch's operators that autograd looks into, which keeps their mask."""
    scale = oracle.scale(p, torch.float64 if weight.dtype in (torch.float64, torch.complex128) else torch.float32)
    return torch.where(kept[words.long()][..., None], embedding(words, weight, **options) * scale, 0)


def saved_by(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return a call's result, and all tensors that autograd has saved for its backward."""
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return call(), saved
