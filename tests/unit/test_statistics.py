"""The masks as random numbers: seeds are fixed, and bounds are in standard deviations of what is measured."""

import math

import pytest
import torch

import fastdrop

SIGMAS = 5.0
N = 1 << 22


def mask(p: float, seed: int, offset: int = 0, n: int = N) -> torch.Tensor:
    return fastdrop.dropout_mask(n, p, seed=seed, offset=offset)


def deviation(count: float, n: int, p: float) -> float:
    """Return how many standard deviations a count of n trials lies from its mean."""
    return (count - n * p) / math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [1e-5, 3e-4, 0.001, 0.1, 0.25, 0.5, 0.9, 0.999, 0.99999])
@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11])
@pytest.mark.sampled(3)
def test_drop_rate(p, seed):
    n = 1 << 25
    dropped = n - int(mask(p, seed, n=n).sum())
    assert abs(deviation(dropped, n, p)) < SIGMAS


@pytest.mark.parametrize("p", [2**-17, 2**-20, 1 - 2**-18])
def test_probabilities_finer_than_a_draw_are_exact_on_average(p):
    """A plain 16-bit threshold would drop none, or 2**-16. A block's rate is a multiple of that; the mean is p."""
    n = 1 << 28
    dropped = n - int(mask(p, 3, n=n).sum())
    assert abs(deviation(dropped, n, p)) < SIGMAS


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7, 8, 16, 32, 64, 128, 1024, 32 * 1024, 1 << 16])
def test_elements_are_independent_of_their_neighbours(lag):
    p = 0.3
    m = ~mask(p, 17)
    both = int((m[lag:] & m[:-lag]).sum())
    assert abs(deviation(both, N - lag, p * p)) < SIGMAS


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, 0), (1, 0)), ((0, 0), (0, 1)), ((5, 6), (6, 5)), ((1, 0), (1 << 32, 0)), ((0, 1), (0, 1 << 32))],
)
def test_keys_that_are_close_give_independent_masks(one, other):
    p = 0.5
    agree = int((mask(p, *one) == mask(p, *other)).sum())
    assert abs(deviation(agree, N, 0.5)) < SIGMAS


def test_runs_of_eight_have_all_256_patterns_equally_often():
    """The eight draws of one counter are independent of each other: chi-square of the patterns at p = 1/2."""
    bits = mask(0.5, 23).view(-1, 8).to(torch.int64)
    patterns = (bits << torch.arange(8)).sum(1)
    counts = torch.bincount(patterns, minlength=256).double()
    mean = counts.sum() / 256
    chi_square = float(((counts - mean) ** 2 / mean).sum())
    assert abs(chi_square - 255) < SIGMAS * math.sqrt(2 * 255)


def test_rows_of_a_matrix_do_not_repeat():
    rows = mask(0.5, 1, n=4096 * 64).view(4096, 64)
    assert len(torch.unique(rows, dim=0)) == 4096


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_mean_is_kept_in_every_dtype(dtype):
    """Native's bfloat16 mean is 0.156 % off at p = 0.1, nine sigmas here: its scale is rounded to bfloat16."""
    p = 0.1
    x = torch.rand(N, generator=torch.Generator().manual_seed(1)).add(1).to(dtype)
    y = fastdrop.functional.dropout(x, p, seed=2).double()
    x = x.double()
    sigma = float(torch.sqrt(p / (1 - p) * (x * x).sum()))
    assert abs(float(y.sum() - x.sum())) < SIGMAS * sigma
