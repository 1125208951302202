"""Dropout with p = 1/2 of small integers, of which all arithmetic is exact."""

import oracle
import pytest
import torch

from fastdrop.functional import dropout

P, SEED = 0.5, 3  # at p = 0.5 all of this is exact in floating point
HARD_P = 0.3  # with which results are rounded


def integers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return small integers without 0, so that sums and products are exact and dropped elements are seen."""
    generator = torch.Generator().manual_seed(4)
    return torch.randint(1, 8, shape, generator=generator).to(dtype)


def fixed(x: torch.Tensor) -> torch.Tensor:
    return dropout(x, P, seed=SEED)


def factors(x: torch.Tensor, p: float = P, seed: int = SEED) -> torch.Tensor:
    """Return what dropout multiplies each element of x by."""
    return oracle.apply(torch.ones_like(x, requires_grad=False), oracle.keep(x, p, seed), p)


def cube_sum(x: torch.Tensor) -> torch.Tensor:
    return (fixed(x) ** 3).sum()


SHAPES = pytest.mark.parametrize(
    "make",
    [lambda: integers(12), lambda: integers(3, 4).t(), lambda: integers(3, 8)[:, ::2]],
    ids=["1d", "t", "sliced"],
)
