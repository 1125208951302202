"""install() in processes that fork, end, or have threads that drop while others install."""

import os

import oracle
import pytest
import torch
from oracle import assert_same_bits
from processes import is_true_in_fork, run_python
from torch.nn import functional as F
from torch_operators import INFINITIES, P, drops_as_ours, seeds

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_is_installed(installed):
    x = torch.randn(100_000)
    (seed,) = seeds()
    wanted = oracle.dropout(x, P, seed)
    assert_same_bits(F.dropout(x, P), wanted)

    def drops_alike_and_goes_on() -> bool:
        torch.manual_seed(0)
        right = (F.dropout(x, P).numpy() == wanted.numpy()).all()  # without OpenMP, which a fork may break
        fastdrop.uninstall()
        return bool(right) and fastdrop.is_installed()  # the block goes on

    assert is_true_in_fork(drops_alike_and_goes_on)


class Dropped(torch.utils.data.Dataset):
    """Item i is the dropout of infinities."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return F.dropout(INFINITIES, 0.5)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_dataloader_workers_are_installed(installed):
    loader = torch.utils.data.DataLoader(Dropped(), num_workers=2, batch_size=None, multiprocessing_context="fork")
    items = list(loader)
    assert all(drops_as_ours(lambda x, item=item: item) for item in items)
    assert len({tuple(item.tolist()) for item in items}) == 4


QUIET = """
import os
os.dup2(1, 2)  # what goes to stderr is to be seen
import threading, torch, warnings
warnings.simplefilter("always")
import fastdrop
fastdrop.install(bernoulli=True)

def work():
    for _ in range(20):
        torch.nn.functional.dropout(torch.ones(100_000, requires_grad=True), 0.1).sum().backward()

work()
for _ in range(4):
    threading.Thread(target=work).start()
"""


def test_a_process_that_ends_installed_with_threads_says_nothing():
    assert run_python(QUIET) == ""


TOGGLED = """
import threading, time, torch
from torch import nn
import fastdrop

SECONDS = 1.5
torch.set_num_threads(1)
end, failures, seen = time.monotonic() + SECONDS, [], set()
script = torch.jit.script(nn.Sequential(nn.Identity(), nn.Dropout(0.5)))
lstm = nn.LSTM(4, 8, num_layers=2, dropout=0.5)
x, infinities = torch.randn(5, 3, 4), torch.full((64,), float("inf"))

def dropouts():
    leaf = torch.ones(500, requires_grad=True)
    for function in (lambda x: nn.functional.dropout(x, 0.5), lambda x: torch.native_dropout(x, 0.5, True)[0]):
        y = function(leaf * 1)
        (grad,) = torch.autograd.grad(y.sum(), leaf)
        assert torch.equal(y, grad) and set(y.tolist()) == {0.0, 2.0}, y
    y = nn.functional.dropout(infinities, 0.5)
    seen.add("ours" if (y == 0).any() else "native")
    assert y.isinf().any() and bool((y == 0).any()) != bool(y.isnan().any())

def channels():
    y = nn.functional.dropout2d(torch.ones(5, 50, 2, 2, requires_grad=True), 0.5)
    assert set(y.flatten().tolist()) == {0.0, 2.0}
    assert len(nn.functional.alpha_dropout(torch.ones(500), 0.5, True).unique()) == 2
    assert set(torch.empty(4096).bernoulli_(0.5).tolist()) == {0.0, 1.0}

def recurrent():
    y, _ = lstm(x)
    y.sum().backward()
    assert y.isfinite().all() and (y.abs() < 1).all()

def scripted():
    for leaf in (torch.ones(500), torch.ones(500, requires_grad=True)):
        assert set(script(leaf).tolist()) == {0.0, 2.0}

def work(function):
    try:
        while time.monotonic() < end:
            function()
    except BaseException as error:
        failures.append(repr(error))

def toggle():
    while time.monotonic() < end:
        with fastdrop.accelerated(bernoulli=True):
            time.sleep(0.001)
            fastdrop.install()
        fastdrop.uninstall()
        time.sleep(0.001)

threads = [threading.Thread(target=work, args=(f,)) for f in (dropouts, channels, recurrent, scripted)]
threads += [threading.Thread(target=toggle) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failures, sorted(seen), fastdrop.is_installed())
"""


def test_installing_while_other_threads_drop():
    # In a process of its own, for it once crashed.
    assert run_python(TOGGLED) == "[] ['native', 'ours'] False"
