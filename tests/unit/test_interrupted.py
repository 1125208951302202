"""Signal handlers that raise while threads of the pool work: nobody writes to memory that the exception frees."""

import os
import signal
import subprocess
import sys
import threading
import time

import mask_reference
import numpy as np
import pytest
import torch
from interrupts import Interrupt, codes, everywhere, interrupted
from launches import launch_of
from processes import run_python

import fastdrop
from fastdrop._devices import openmp, threads
from fastdrop_kernels.launch import Launch

COUNT = 4 * threads.POOL_GRAIN + 5
SOME_TIME = 0.2  # seconds that a share takes which is slow


@pytest.fixture(autouse=True)
def python_threads(monkeypatch):
    monkeypatch.setattr(threads, "torch_openmp", lambda: None)
    monkeypatch.setattr(threads, "_inviting", threading.RLock())  # a test that raises anywhere may leave it locked
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Shares:
    """Shares that take their time, in place of the kernel's; each says when it is at work."""

    def __init__(self, seconds: float = SOME_TIME) -> None:
        self.seconds, self.at_work, self.begun = seconds, [], []

    def __call__(self, kernel: int, launch: Launch, start: int, end: int) -> None:
        self.at_work.append(start)
        self.begun.append(start)
        try:
            time.sleep(self.seconds)
        finally:
            self.at_work.remove(start)


@pytest.fixture
def shares(monkeypatch):
    shares = Shares()
    monkeypatch.setattr(threads, "run_blocks", shares)
    return shares


def run() -> None:
    threads.run_shared(0, launch_of(0, 0, 0, COUNT, 0, 0, 0.5))


def test_all_shares_are_run_once(shares):
    run()
    blocks = -(-COUNT // threads.BLOCK)
    assert sorted(shares.begun) == list(range(0, blocks, -(-blocks // 4)))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no setitimer")
@pytest.mark.parametrize("signals", [1, 5])
def test_no_share_is_at_work_when_a_handlers_exception_leaves(shares, signals):
    left = [signals]

    def handler(*_: object) -> None:
        if left[0]:
            left[0] -= 1
            raise Interrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, SOME_TIME / 4, SOME_TIME / 20)
    try:
        with pytest.raises(Interrupt):
            run()
        at_work, begun = list(shares.at_work), len(shares.begun)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert left == [0]
    assert not at_work
    time.sleep(2 * SOME_TIME)
    assert len(shares.begun) == begun  # nor does one begin later


def test_no_share_is_at_work_wherever_the_exception_comes(monkeypatch):
    shares = Shares(0.002)
    monkeypatch.setattr(threads, "run_blocks", shares)
    run()  # what is made once is there

    def handler() -> None:
        raise Interrupt

    where, place = codes(threads.run_shared, threads._share, threads._invite), 0
    while True:
        try:
            if not interrupted(run, where, handler, place):
                break
        except Interrupt:
            assert not shares.at_work, place
        place += 1
    assert place > 50


def test_without_the_pools_threads_the_caller_does_it_all(monkeypatch):
    class Ended:
        def __init__(self, after: int) -> None:
            self.after, self.pool = after, threads.ThreadPoolExecutor(1)

        def submit(self, *arguments):
            if self.after == 0:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self.after -= 1
            return self.pool.submit(*arguments)

    x = torch.randn(COUNT)
    for after in (0, 1, 2):
        ended = Ended(after)
        monkeypatch.setattr(threads, "_pool", lambda ended=ended: ended)
        y = fastdrop.functional.dropout(x, 0.1, seed=9)
        assert np.array_equal(y.numpy(), mask_reference.dropout(x.numpy(), 0.1, 9))


def test_an_error_of_a_share_comes_out(monkeypatch):
    def fail(kernel: int, launch: Launch, start: int, end: int) -> None:
        time.sleep(0.01)
        if start == 0:
            raise MemoryError("no stack")

    monkeypatch.setattr(threads, "run_blocks", fail)
    with pytest.raises(MemoryError, match="no stack"):
        run()


LATE = """
import atexit, threading, time, torch
from fastdrop.functional import dropout
torch.set_num_threads(2)
x = torch.ones(1 << 20)
wanted = dropout(x, 0.5, seed=1).numpy()

def drop():
    print((dropout(x, 0.5, seed=1).numpy() == wanted).all(), flush=True)

def drop_late():
    threading.main_thread().join()
    for _ in range(3):
        time.sleep(0.1)
        drop()

threading.Thread(target=drop_late).start()
atexit.register(drop)
"""


@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.sampled(2)
def test_dropout_while_the_interpreter_ends(switch):
    assert run_python(LATE, **{openmp.SWITCH: switch}).split() == ["True"] * 4


CTRL_C = """
import signal, torch
from fastdrop.functional import dropout
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background is started without
torch.set_num_threads(2)
x = torch.ones(1 << 24)
ended = 0
while ended < 5:
    try:
        print("dropping", flush=True)
        while True:
            y = dropout(x, 0.5, seed=1)
            del y
    except KeyboardInterrupt:
        ended += 1
        print(ended, torch.zeros(1 << 22).sum().item(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.sampled(2)
def test_keyboard_interrupts(switch):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), openmp.SWITCH: switch}
    with subprocess.Popen([sys.executable, "-c", CTRL_C], env=env, stdout=subprocess.PIPE, text=True) as process:
        for ended in range(1, 6):
            assert process.stdout.readline() == "dropping\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == f"{ended} 0.0\n"
    assert process.returncode == 0


def test_a_handler_that_drops_while_threads_are_invited():
    """The pool's own locks are held there; the handler does without it."""
    x = torch.randn(2 * threads.POOL_GRAIN)
    wanted = mask_reference.dropout(x.numpy(), 0.1, 9)
    results = []

    def handler() -> None:
        results.append(fastdrop.functional.dropout(x, 0.1, seed=9))

    where = codes(threads._invite, threads.ThreadPoolExecutor.submit)
    thread = threading.Thread(  # a handler that waits for ever is not to stop the tests
        target=lambda: [None for _ in everywhere(handler, where, handler, step=11)], daemon=True
    )
    thread.start()
    thread.join(300)
    assert not thread.is_alive()
    assert len(results) > 10
    assert all(np.array_equal(y.numpy(), wanted) for y in results)


FORK = """
import os
os.register_at_fork(before=lambda: handler())  # called with locks of the pool's held, as signal handlers may be
import torch
from fastdrop.functional import dropout
torch.set_num_threads(2)
x = torch.ones(1 << 20)
wanted, results = dropout(x, 0.5, seed=1), []

def handler():
    results.append(dropout(x, 0.5, seed=1))

child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print([bool((y.numpy() == wanted.numpy()).all()) for y in results])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.sampled(2)
def test_a_handler_that_drops_within_a_fork(switch):
    assert run_python(FORK, **{openmp.SWITCH: switch}) == "[True]"
