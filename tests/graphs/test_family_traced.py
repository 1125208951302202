"""Members that torch has no operator for, in `torch.jit.trace`: a trace draws at each of its runs."""

import pytest
import torch

from fastdrop.functional import (
    drop_block2d,
    drop_path,
    dropout,
    embedding_dropout,
    gaussian_dropout,
    gaussian_noise,
    variational_dropout,
    word_dropout,
)

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of shapes, which a trace holds fast

P = 0.4
MASKED = {
    "drop_path": (lambda x: drop_path(x, P, True), (-1, 1, 1)),
    "variational_dropout": (lambda x: variational_dropout(x, P, batch_first=True), (-1, 1, 8)),
    "dropout, noise_shape": (lambda x: dropout(x, P, noise_shape=(None, 1, None)), (-1, 1, 8)),
}


def traced(function):
    return torch.jit.trace(function, (torch.ones(50, 6, 8),), check_trace=False)


@pytest.mark.parametrize("name", MASKED)
def test_masks_are_new_at_each_run_and_shared_as_they_should_be(name):
    function, noise = MASKED[name]
    trace, x = traced(function), torch.full((50, 6, 8), 3.0, requires_grad=True)
    first, second = trace(x), trace(x)
    assert not torch.equal(first, second)
    for y in (first, second):
        assert y.unique().tolist() == pytest.approx([0.0, 3 / (1 - P)])
        shared = y[:, :1, : noise[2]]
        assert torch.equal(y, shared.expand_as(y))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(gradient, y / 3)
    rate = torch.stack([trace(x) == 0 for _ in range(40)]).float().mean()
    assert abs(rate - P) < 5 * (P * (1 - P) / (40 * 50)) ** 0.5


@pytest.mark.parametrize("function", [gaussian_dropout, gaussian_noise])
def test_noise_is_new_at_each_run(function):
    trace, x = traced(lambda x: function(x, P)), torch.ones(50, 6, 8)
    first, second = trace(x), trace(x)
    assert not torch.equal(first, second)
    std = (P / (1 - P)) ** 0.5 if function is gaussian_dropout else P
    for y in (first, second):
        assert abs(y.mean() - 1) < 5 * std / 2400**0.5
        assert abs(y.std() / std - 1) < 5 / (2 * 2400) ** 0.5


WORDS = torch.arange(2, 302)


def dropped_words(x: torch.Tensor) -> torch.Tensor:
    """Return which of 300 words are dropped, as ones."""
    return (word_dropout(WORDS, P, 1) == 1) + 0 * x[0, 0, 0]


def dropped_rows(x: torch.Tensor) -> torch.Tensor:
    """Return which of 300 rows of an embedding are dropped, as ones."""
    return 1 - embedding_dropout(WORDS, torch.ones(400, 1) + 0 * x[0, 0, 0], P)[:, 0] * (1 - P)


def dropped_places(x: torch.Tensor) -> torch.Tensor:
    """Return which of 300 elements a block of one element drops, as ones."""
    return (drop_block2d(x.flatten()[:300].reshape(1, 1, 20, 15), P, 1) == 0).flatten()


@pytest.mark.parametrize("function", [dropped_words, dropped_rows, dropped_places])
def test_masks_that_are_made_by_themselves_are_new_at_each_run(function):
    trace, x = traced(function), torch.ones(50, 6, 8)
    runs = torch.stack([trace(x) for _ in range(40)]).double().round()
    assert runs.unique().tolist() == [0.0, 1.0]
    assert not torch.equal(runs[0], runs[1])
    assert abs(runs.mean() - P) < 5 * (P * (1 - P) / runs.numel()) ** 0.5
