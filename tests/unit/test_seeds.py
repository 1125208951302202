"""Which mask comes when: torch's generators, explicit keys, and several threads."""

import threading

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of

import fastdrop
from fastdrop.functional import dropout, dropout_mask

ONES = torch.ones(500)


def drawn(**key) -> list[float]:
    return dropout(ONES, 0.5, **key).tolist()


# Generators


def test_two_calls_differ():
    results = [drawn() for _ in range(10)]
    assert all(set(result) == {0.0, 2.0} for result in results)
    assert len({tuple(result) for result in results}) == 10


@pytest.mark.parametrize("call", [dropout, lambda x: fastdrop.Dropout()(x)], ids=["functional", "module"])
def test_manual_seed_reproduces_masks(call):
    torch.manual_seed(3)
    first = [call(ONES).tolist() for _ in range(3)]
    torch.manual_seed(3)
    assert [call(ONES).tolist() for _ in range(3)] == first
    torch.manual_seed(4)
    assert [call(ONES).tolist() for _ in range(3)] != first


def test_rng_state_reproduces_masks():
    drawn()
    state = torch.get_rng_state()
    first = [drawn() for _ in range(3)]
    torch.set_rng_state(state)
    assert [drawn() for _ in range(3)] == first


def test_fork_rng_keeps_the_state():
    torch.manual_seed(3)
    first = drawn()
    torch.manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        inside = [drawn(), drawn()]
    assert inside[0] == first
    assert drawn() == first
    assert inside[1] != first


def test_a_call_advances_the_generator_that_it_draws_from():
    own, state = torch.Generator().manual_seed(1), torch.get_rng_state()
    before = own.get_state()
    drawn(generator=own)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(own.get_state(), before)
    drawn()
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (500,), (50, 1000)], ids=str)
def test_every_size_advances_the_generator_alike(shape, inplace):
    torch.manual_seed(3)
    dropout(torch.ones(7), 0.5)
    wanted = drawn()
    torch.manual_seed(3)
    dropout(torch.ones(shape), 0.1, inplace=inplace)
    assert drawn() == wanted


@pytest.mark.parametrize(("p", "training", "shape"), [(0.0, True, (5,)), (0.5, False, (5,)), (0.5, True, (0,))])
def test_what_drops_nothing_advances_nothing(p, training, shape):
    own, state = torch.Generator(), torch.get_rng_state()
    before = own.get_state()
    for generator in (None, own):
        dropout(torch.ones(shape), p, training, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(own.get_state(), before)


def test_users_generator_reproduces_masks():
    own = torch.Generator().manual_seed(3)
    first = [drawn(generator=own) for _ in range(3)]
    assert len({tuple(result) for result in first}) == 3
    state = own.get_state()
    later = drawn(generator=own)
    own.manual_seed(3)
    assert [drawn(generator=own) for _ in range(3)] == first
    own.set_state(state)
    assert drawn(generator=own) == later
    torch.manual_seed(3)
    assert [drawn() for _ in range(3)] == first  # a generator is a generator


def test_modules_generator():
    layer = fastdrop.Dropout(generator=torch.Generator().manual_seed(5))
    state = torch.get_rng_state()
    first, second = layer(ONES).tolist(), layer(ONES).tolist()
    assert torch.equal(torch.get_rng_state(), state)
    assert first != second
    other = torch.Generator().manual_seed(5)
    assert [drawn(generator=other), drawn(generator=other)] == [first, second]
    layer.generator.manual_seed(5)
    assert layer(ONES, seed=1).tolist() == oracle.dropout(ONES, 0.5, 1).tolist()  # which draws nothing
    assert layer(ONES).tolist() == first
    layer.eval()
    assert layer(ONES) is ONES


def test_modules_that_share_a_generator():
    generator = torch.Generator().manual_seed(5)
    model = torch.nn.Sequential(*(fastdrop.Dropout(0.1, generator=generator) for _ in range(2)))
    kept = [model(ONES).count_nonzero() for _ in range(20)]
    sigma = (20 * 500 * 0.81 * 0.19) ** 0.5
    assert abs(sum(kept) - 20 * 500 * 0.81) < 4 * sigma  # two equal masks would keep 0.9


def test_seeds_of_neighbouring_manual_seeds_are_independent():
    masks = []
    for seed in range(40):
        torch.manual_seed(seed)
        masks.append(dropout(torch.ones(1000), 0.5) != 0)
    differ = [int((one != other).sum()) for i, one in enumerate(masks) for other in masks[:i]]
    sigma = (1000 * 0.25) ** 0.5
    assert max(abs(count - 500) for count in differ) < 5 * sigma  # the largest of 780: 5 sigma has odds of 1 to 2000


# Seed and offset


SEEDS = [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, 0x0123456789ABCDEF]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_gives_its_mask(seed):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    assert_same_bits(dropout(x, 0.3, seed=seed), oracle.dropout(x, 0.3, seed))
    assert_same_bits(fastdrop.Dropout(0.3)(x, seed=seed), oracle.dropout(x, 0.3, seed))


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize("offset", SEEDS)
def test_every_offset_gives_its_mask(offset, seed):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    assert_same_bits(dropout(x, 0.3, seed=seed, offset=offset), oracle.dropout(x, 0.3, seed, offset))
    assert_same_bits(fastdrop.Dropout(0.3)(x, seed=seed, offset=offset), oracle.dropout(x, 0.3, seed, offset))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("seed", [0, 5, 2**62, -1, -(2**63), 2**63 - 1])
def test_seed_tensors_are_twos_complement(seed, shape):
    tensor = torch.full(shape, seed, dtype=torch.int64)
    assert_same_bits(dropout(ONES, 0.3, seed=tensor), oracle.dropout(ONES, 0.3, seed % 2**64))
    assert torch.equal(dropout_mask(500, 0.3, seed=tensor), oracle.keep(ONES, 0.3, seed % 2**64))


@pytest.mark.parametrize(
    "integer",
    [np.uint64(2**64 - 1), np.int64(7), np.int32(7), np.uint8(200), np.uint64(2**63), True, np.array(9)],
    ids=repr,
)
def test_other_integers(integer):
    wanted = oracle.dropout(ONES, 0.3, int(integer), int(integer))
    assert_same_bits(dropout(ONES, 0.3, seed=integer, offset=integer), wanted)


@pytest.mark.parametrize("key", [{"seed": np.int64(-1)}, {"seed": 0, "offset": np.int32(-1)}], ids=str)
def test_negative_integers_that_are_no_tensors(key):
    assert error_of(lambda: dropout(ONES, 0.3, **key))[0] == "ValueError"


def test_explicit_seed_touches_no_generator():
    state, tensor = torch.get_rng_state(), torch.tensor(4)
    x = torch.ones(50, 60, requires_grad=True)
    for key in ({"seed": 4}, {"seed": tensor}, {"seed": 4, "offset": 9}):
        dropout(x, 0.5, **key).sum().backward()
        dropout(x * 1, 0.5, inplace=True, **key)
        fastdrop.Dropout()(x, **key)
        dropout_mask(100, 0.5, **key)
    torch.vmap(lambda row: dropout(row, 0.5, seed=4))(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert tensor == 4


def test_seed_and_offset_both_matter():
    keys = [(0, 0), (1, 0), (0, 1), (1, 1), (2**32, 0), (0, 2**32), (2**63, 0), (0, 2**63), (2, 1), (1, 2)]
    assert len({tuple(drawn(seed=seed, offset=offset)) for seed, offset in keys}) == len(keys)


def test_offset_counts_without_a_seed():
    results = []
    for offset in (0, 1, 2**64 - 1, 0):
        torch.manual_seed(3)
        results.append(drawn(offset=offset))
    assert results[0] == results[3]
    assert len({tuple(result) for result in results}) == 3


def test_same_key_gives_the_same_mask_twice():
    assert drawn(seed=9, offset=2) == drawn(seed=9, offset=2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(6000,), (6, 1000), (1000, 6), (10, 20, 30), (6000, 1), (1, 1, 6000)], ids=str)
def test_mask_depends_on_the_index_only(shape, dtype):
    for p in (0.3, 0.5):
        kept = dropout(torch.ones(shape, dtype=dtype), p, seed=9, offset=2).reshape(-1) != 0
        assert torch.equal(kept, oracle.keep(torch.empty(6000), p, 9, 2))


@pytest.mark.parametrize("size", [1, 7, 8, 1023, 1024, 1025, 40_000])
def test_a_shorter_tensor_gets_the_start_of_a_longer_ones_mask(size):
    long = dropout(torch.ones(100_000), 0.3, seed=9)
    assert_same_bits(dropout(torch.ones(size), 0.3, seed=9), long[:size].clone())


# Threads


@pytest.mark.parametrize("own", [False, True], ids=["global", "own generator"])
def test_threads_never_share_a_seed(own):
    # A mask of 64 elements at p = 0.5 stands for its seed: two of 60,000 are equal by chance once in 10**10 runs.
    threads, draws = 4, 15_000
    x, powers = torch.ones(64), 2 ** np.arange(64, dtype=np.uint64)
    generator = torch.Generator().manual_seed(1) if own else None
    seen, barrier = [np.empty((draws, 64), np.float32) for _ in range(threads)], threading.Barrier(threads)

    def draw(results):
        barrier.wait()
        for i in range(draws):
            results[i] = dropout(x, 0.5, generator=generator).numpy()

    running = [threading.Thread(target=draw, args=(results,)) for results in seen]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    masks = ((np.concatenate(seen) != 0) * powers).sum(1, dtype=np.uint64)
    assert len(np.unique(masks)) == threads * draws


def test_a_generator_gives_each_thread_what_it_gives_any():
    results = []
    thread = threading.Thread(target=lambda: results.append(drawn(generator=torch.Generator().manual_seed(3))))
    thread.start()
    thread.join()
    assert results == [drawn(generator=torch.Generator().manual_seed(3))]
