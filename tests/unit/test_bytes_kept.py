"""What benchmarks say that a backward's memory is."""

import torch
from torch.nn.functional import dropout, embedding

from bench.baselines import PAIRS, WORDS
from fastdrop.bench.providers import bytes_kept


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(shape, requires_grad=True)


def test_memory_that_is_saved_twice_counts_once():
    once, other = torch.ones(8), torch.ones(8)
    x = leaf(8)
    assert bytes_kept(lambda x: x + 1, x) == 0
    assert bytes_kept(lambda x: x * once, x) == 4
    assert bytes_kept(lambda x: x * once * once, x) == 4
    assert bytes_kept(lambda x: x * once * once.flip(0), x) == 8
    assert bytes_kept(lambda x: x * once * other, x) == 8
    assert bytes_kept(lambda x: x.view(2, 4) * once.view(2, 4) * once.view(2, 4), x) == 4
    assert bytes_kept(lambda x: x[:4] * once[:4] * once[4:], x) == 4


def test_memory_that_is_freed_and_used_again_counts_each_time():
    x = leaf(1000)

    def drop_often(x: torch.Tensor) -> None:
        for _ in range(20):
            dropout(x, 0.5)

    assert bytes_kept(drop_often, x) == 20 * bytes_kept(lambda x: dropout(x, 0.5), x) > 0


def test_a_view_keeps_all_memory_that_it_is_of():
    whole = torch.ones(8, 8)
    assert bytes_kept(lambda x: x * whole[0], leaf(8)) == 8 * 4


def test_embedding_dropout_keeps_what_the_embedding_keeps():
    weight, pair = leaf(64, 4), PAIRS["embedding_dropout"]
    plain = bytes_kept(lambda weight: embedding(WORDS % len(weight), weight), weight)
    assert bytes_kept(pair.fastdrop, weight) == plain == WORDS.nbytes / weight.numel()
    assert bytes_kept(pair.baseline, weight) == plain + len(weight) * 4 / weight.numel()
