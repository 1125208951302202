"""Forks while another thread holds a lock: the child has to be able to take it, and to find a state that is whole."""

import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import oracle
import pytest
import torch
from processes import is_true_in_fork
from torch.nn import functional as F

import fastdrop
from fastdrop._keys import seeds
from fastdrop._patch import install
from fastdrop_kernels.cpu import compiler, registry

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.usefixtures("uninstalled"),
]
SOME_TIME = 0.3  # seconds that another thread is at it, when the fork comes


class Slow:
    """A function that takes its time, and says when it has begun."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.begun, self.is_done = function, threading.Event(), False

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.begun.set()
        time.sleep(SOME_TIME)
        result = self.function(*args, **kwargs)
        self.is_done = True
        return result


def is_true_meanwhile(slow: Slow, work: Callable[[], object], check: Callable[[], bool]) -> bool:
    """Return what `check` returns in a child that is forked while another thread is in the slow part of `work`."""
    thread = threading.Thread(target=work)
    thread.start()
    assert slow.begun.wait(60)
    assert not slow.is_done
    try:
        return is_true_in_fork(check)
    finally:
        thread.join()


def test_child_compiles(monkeypatch):
    """The other thread compiles one kernel, or loads it from the cache, and the child another."""
    slow = Slow(compiler._cached_callback)
    monkeypatch.setattr(compiler, "_callbacks", {})
    monkeypatch.setattr(compiler, "_cached_callback", slow)
    assert is_true_meanwhile(
        slow,
        lambda: registry.compiled("dropout", "float32"),
        lambda: registry.compiled("dropout", "float64").address > 0 and list(compiler._callbacks)[-1:] != [],
    )


def test_child_compiles_while_numba_compiles_for_somebody_else(monkeypatch):
    from numba.core.compiler_lock import global_compiler_lock

    slow = Slow(int)
    monkeypatch.setattr(compiler, "_callbacks", {})
    assert is_true_meanwhile(
        slow, global_compiler_lock(slow), lambda: registry.compiled("dropout", "float64").address > 0
    )


def test_child_of_a_process_that_installs(monkeypatch):
    slow = Slow(install.aten.keys)
    monkeypatch.setattr(install, "_overridden", type(install._overridden)())
    monkeypatch.setattr(install.aten, "keys", slow)
    x = torch.randn(1000)
    torch.manual_seed(5)
    wanted = oracle.dropout(x, 0.5, seeds.draw())

    def installs_and_drops() -> bool:
        fastdrop.install()
        torch.manual_seed(5)
        return bool((F.dropout(x, 0.5).numpy() == wanted.numpy()).all())

    assert is_true_meanwhile(slow, fastdrop.install, installs_and_drops)


def test_child_draws_from_a_gpus_generator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    slow = Slow(lambda: 0)
    generator = SimpleNamespace(get_offset=slow, set_offset=lambda value: None, initial_seed=lambda: 7)
    other = SimpleNamespace(get_offset=lambda: 4, set_offset=lambda value: None, initial_seed=lambda: 7)
    first = seeds._draw_cuda(other)
    assert is_true_meanwhile(slow, lambda: seeds._draw_cuda(generator), lambda: seeds._draw_cuda(other) == first)


def test_fork_within_a_lock_of_the_thread_that_forks():
    with compiler._compiling:
        assert is_true_in_fork(lambda: registry.compiled("dropout", "float64").address > 0)
    with compiler._compiling:  # neither here nor there is it released once too often
        pass
