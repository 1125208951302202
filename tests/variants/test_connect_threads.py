"""DropConnect beside other threads: none waits for another, and none sees another's dropped weights."""

import copy
import gc
import os
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from processes import is_true_in_fork
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from fastdrop import DropConnect
from fastdrop.functional import dropout


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def in_thread(function: Callable[[], object]) -> object:
    """Return what a function returns in another thread; fail if that waits for ever."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(60)
    assert results, "the thread waits, or failed"
    return results[0]


def test_a_forward_that_waits_for_another_threads():
    class Waiting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + in_thread(lambda: other(x, seed=2))

    layer, other = DropConnect(Waiting(8, 8)), DropConnect(nn.Linear(8, 8))
    x = torch.ones(8)
    assert torch.equal(layer(x, seed=1), DropConnect(super_of(layer))(x, seed=1) + other(x, seed=2))


def super_of(layer: DropConnect) -> nn.Linear:
    plain = nn.Linear(8, 8)
    plain.load_state_dict(layer.state_dict())
    return plain


@pytest.mark.parametrize("by_thread", [False, True])
def test_all_but_the_forward_see_the_true_weights_meanwhile(by_thread):
    layer, x = nn.Sequential(DropConnect(nn.Sequential(nn.Linear(8, 8), nn.LSTM(8, 8)), 0.5)), torch.ones(2, 8)
    before, dropped = {name: tensor.clone() for name, tensor in layer.state_dict().items()}, []

    def seen() -> bool:
        states = [layer.state_dict(), dict(layer.named_parameters()), layer[0].wrapped.state_dict()]
        states[2] = {f"0.{name}": tensor for name, tensor in states[2].items()}
        return all(torch.equal(state[name], before[name]) for state in states for name in before)

    def look(module: nn.Module, *_: object) -> None:
        dropped.append(module.weight.detach())
        assert in_thread(seen) if by_thread else seen()
        if by_thread:  # evaluation is undisturbed
            wanted = functional_call(nn.Linear(8, 8), {"weight": before["0.0.weight"], "bias": before["0.0.bias"]}, x)
            assert torch.equal(in_thread(lambda: nn.Linear.forward(layer[0].wrapped[0], x)), wanted)

    layer[0].wrapped[0].register_forward_hook(look)
    layer(x)
    assert (dropped[0] == 0).any()


@pytest.mark.parametrize("norm", [lambda module: module, nn.utils.weight_norm, parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_threads_that_train_one_module_have_their_own_masks_and_gradients(norm):
    layer, x, wrong = DropConnect(norm(nn.Linear(32, 32)), 0.3), torch.randn(4, 32), []
    parameters = list(layer.parameters())

    def results(seed: int) -> list[torch.Tensor]:
        y = layer(x, seed=seed)
        return [y, *torch.autograd.grad(y.square().sum(), parameters)]

    wanted = [results(seed) for seed in range(4)]
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        try:
            start.wait()
            for _ in range(40):
                if not all(map(torch.equal, results(seed), wanted[seed])):
                    wrong.append(seed)
        except RuntimeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_drops():
    class Slow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside.set()
            done.wait()
            return super().forward(x)

    inside, done = threading.Event(), threading.Event()
    layer, other, x = DropConnect(Slow(4, 4)), DropConnect(nn.Linear(4, 4)), torch.ones(4)
    wanted, before = other(x, seed=1), layer.weight.clone()
    thread = threading.Thread(target=layer, args=[x])
    thread.start()
    inside.wait()
    try:
        assert is_true_in_fork(lambda: torch.equal(other(x, seed=1), wanted) and torch.equal(layer.weight, before))
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_within_has_the_same_masks(use_reentrant):
    class Saving(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(super().forward, x, use_reentrant=use_reentrant)

    plain, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)), torch.randn(3, 8, requires_grad=True)
    saving = Saving(*plain)
    results = []
    for module in (plain, saving):
        y, x.grad = DropConnect(module, 0.5)(x, seed=3), None
        y.square().sum().backward()
        results.append([y, x.grad])
    assert all(map(torch.equal, *results))


def test_nested_ones_drop_what_the_other_has_dropped():
    layer = DropConnect(nn.Sequential(DropConnect(nn.Linear(64, 64, bias=False), 0.5)), 0.5)
    nn.init.ones_(layer.get_parameter("0.weight"))
    torch.manual_seed(3)
    y = layer(torch.eye(64))
    torch.manual_seed(3)
    wanted = dropout(dropout(torch.ones(64, 64), 0.5), 0.5)
    assert torch.equal(y.t(), wanted)
    assert set(wanted.unique().tolist()) == {0.0, 4.0}


def test_a_view_is_equal_to_its_module_shares_its_state_and_is_gone_with_the_call():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.register_buffer("last", x)
            return super().forward(x)

    layer, results = DropConnect(nn.Sequential(Counting(8, 8), nn.Linear(8, 8)), 0.5), {}
    first = layer.wrapped[0]

    def look(module: nn.Module, *_: object) -> None:
        results[first] = copy.deepcopy(module), weakref.ref(module.weight), {first: "found"}[module]
        assert module == first and first == module and isinstance(module, Counting)
        assert module != layer.wrapped[1]

    first.register_forward_hook(look)
    gc.disable()
    try:
        with torch.no_grad():
            x = torch.ones(8)
            layer(x)
        twin, weight, _ = results[first]
        assert weight() is None
    finally:
        gc.enable()
    assert first.calls == 1 and first.last is x
    assert type(twin) is Counting and torch.equal(twin.weight, first.weight)
