"""mc_dropout and mc_predict where several run at once: nested, interleaved, in threads that share a model, forked."""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from processes import is_true_in_fork
from torch import nn

from fastdrop import mc_dropout, mc_predict
from fastdrop._monte_carlo import turns

X = torch.ones(8, 64)
WAIT = 60  # seconds until a thread that should have come by is given up


def model_of(*, training: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.5)).train(training)


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model]


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Return what functions return, each run in a thread; what one raises is raised here."""
    results: list[Any] = [None] * len(functions)

    def run(i: int) -> None:
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "a thread waits for ever"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Meeting(nn.Module):
    """Drops, and in the first pass of each thread waits for the other ones."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.dropout, self.barrier, self.met = nn.Dropout(0.5), threading.Barrier(threads), threading.local()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self.met, "yes"):
            self.met.yes = True
            self.barrier.wait(WAIT)
        return self.dropout(x)


# Blocks


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_blocks_that_end_in_any_order(training, first):
    model = model_of(training=training)
    blocks = mc_dropout(model), mc_dropout(model)
    for block in blocks:
        block.__enter__()
        assert flags(model) == [False, True]
    blocks[first].__exit__(None, None, None)
    assert flags(model) == [False, True]
    blocks[1 - first].__exit__(None, None, None)
    assert flags(model) == [training, training]


def test_the_newest_block_rules_until_it_ends():
    model = model_of()
    first, second = mc_dropout(model), mc_dropout(model, modules=(nn.BatchNorm1d,))
    with contextlib.ExitStack() as stack:
        first.__enter__()
        stack.enter_context(second)
        first.__exit__(None, None, None)
        assert flags(model) == [True, True]
    assert flags(model) == [False, False]


def test_blocks_of_a_model_and_of_a_part():
    model = model_of(training=True)
    with mc_dropout(model), mc_dropout(nn.Sequential(model[1])):
        assert flags(model) == [False, True]
    assert flags(model) == [True, True]


def test_what_is_set_inside_is_as_before_after_it():
    model = model_of()
    with mc_dropout(model):
        with mc_dropout(model):
            model.train()
            model.append(nn.Dropout(0.5))
        assert flags(model) == [False, True, True]
        model.eval()
    assert flags(model) == [False, False, False]  # the one that was added is as it was set


def test_a_block_that_is_forgotten_ends():
    def generator():
        with mc_dropout(model):
            yield

    model, forgotten = model_of(), generator()
    next(forgotten)
    assert model[1].training
    del forgotten
    assert flags(model) == [False, False]


def test_threads_that_want_different_flags_are_told():
    model = model_of()
    with mc_dropout(model):
        with pytest.raises(RuntimeError, match="another thread is in mc_dropout .* BatchNorm1d .* copy of the model"):
            in_threads(lambda: mc_predict(model, X, modules=(nn.BatchNorm1d,)))
        assert flags(model) == [False, True]
        in_threads(lambda: mc_predict(model, X))  # the same is no harm
        assert flags(model) == [False, True]
    assert flags(model) == [False, False]


# Predictions in threads


@pytest.mark.parametrize("model", [Meeting(4), nn.Sequential(Meeting(4))])
def test_predictions_without_a_seed_run_beside_each_other(model):
    model.eval()
    for prediction in in_threads(*[lambda: mc_predict(model, X, 30, keep_samples=True)] * 4):
        assert len(prediction.samples.flatten(1).unique(dim=0)) == 30  # all dropped, and each anew
    assert not any(module.training for module in model.modules())


def test_seeds_are_kept_beside_other_predictions():
    model = model_of()
    wanted = {seed: mc_predict(model, X, 10, seed=seed, keep_samples=True).samples for seed in range(4)}
    before = torch.get_rng_state()
    for _ in range(3):
        calls = [lambda seed=seed: mc_predict(model, X, 10, seed=seed, keep_samples=True).samples for seed in wanted]
        for seed, samples in enumerate(in_threads(*calls)):
            assert torch.equal(samples, wanted[seed])
    assert torch.equal(torch.get_rng_state(), before)
    unseeded = [lambda: mc_predict(model, X, 10, keep_samples=True).samples] * 2
    for _ in range(3):
        *others, samples = in_threads(*unseeded, calls[3])
        assert torch.equal(samples, wanted[3])
        assert len(torch.cat(others).flatten(1).unique(dim=0)) == 20  # no number was drawn twice
    assert flags(model) == [False, False]


class Asks(nn.Module):
    """Has another model predict, with a seed, in its own pass; at first with the other threads in theirs."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.meeting, self.other = Meeting(threads), model_of()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.meeting(x) + mc_predict(self.other, x, 2, seed=1).mean


def test_predictions_within_predictions():
    model = Asks(2).eval()
    with_a_seed = Asks(1).eval()
    inner = mc_predict(model.other, X, 2, seed=1).mean
    for prediction in in_threads(*[lambda: mc_predict(model, X, 5, keep_samples=True)] * 2):
        assert all(set((sample - inner).round().unique().tolist()) == {0.0, 2.0} for sample in prediction.samples)
    first, second = (mc_predict(with_a_seed, X, 5, seed=2, keep_samples=True).samples for _ in range(2))
    assert torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) == 5


def test_a_turn_comes_back_after_an_exception():
    def alone() -> bool:
        with turns.turn(alone=True):
            return True

    with pytest.raises(KeyError), turns.turn(alone=False), turns.turn(alone=True):
        raise KeyError
    assert in_threads(alone) == [True]


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_waits_for_no_thread_that_it_does_not_have():
    model, inside, done = model_of(), threading.Event(), threading.Event()

    class Waits(nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside.set()
            done.wait(WAIT)
            return super().forward(x)

    both = nn.Sequential(model, Waits(0.5)).eval()
    thread = threading.Thread(target=mc_predict, args=(both, X, 1), kwargs={"seed": 0}, daemon=True)
    thread.start()
    assert inside.wait(WAIT)
    with mc_dropout(model):
        assert is_true_in_fork(lambda: flags(model) == [False, True] and not both[1].training)
    one = model[1]  # torch's parallel operators may hang in a child, BatchNorm's among them
    assert is_true_in_fork(lambda: not any(flags(model)) and len(mc_predict(one, X[:1], 2, seed=0).std) == 1)
    done.set()
    thread.join(WAIT)
    assert flags(model) == [False, False]
