"""install(), uninstall() and accelerated(): whose the operators are, and that all is given back."""

import threading

import pytest
import torch
from processes import run_python
from torch.testing._internal.two_tensor import TwoTensor
from torch_operators import OPERATORS, is_ours

import fastdrop
from fastdrop._patch import install

pytestmark = pytest.mark.usefixtures("uninstalled")


def test_install_and_uninstall():
    assert not fastdrop.is_installed() and not is_ours()
    fastdrop.uninstall()
    for change, installed in [
        (fastdrop.install, True),
        (fastdrop.install, True),
        (fastdrop.uninstall, False),
        (fastdrop.uninstall, False),
        (fastdrop.install, True),
        (fastdrop.uninstall, False),
    ]:
        change()
        assert fastdrop.is_installed() == is_ours() == installed


def test_nested_blocks():
    with fastdrop.accelerated():
        with fastdrop.accelerated():
            assert fastdrop.is_installed() and is_ours()
        assert fastdrop.is_installed() and is_ours()
    assert not fastdrop.is_installed() and not is_ours()


def test_blocks_and_install():
    fastdrop.install()
    with fastdrop.accelerated():
        assert is_ours()
    assert fastdrop.is_installed() and is_ours()
    with fastdrop.accelerated():
        fastdrop.uninstall()
        assert fastdrop.is_installed() and is_ours()
    assert not fastdrop.is_installed() and not is_ours()
    with fastdrop.accelerated():
        fastdrop.install()
    assert fastdrop.is_installed() and is_ours()


def test_errors_end_a_block():
    with pytest.raises(ZeroDivisionError), fastdrop.accelerated():
        assert is_ours()
        raise ZeroDivisionError
    assert not fastdrop.is_installed() and not is_ours()


def test_block_as_a_decorator():
    for _ in range(2):
        assert fastdrop.accelerated()(is_ours)()
        assert not is_ours()


def test_blocks_overlap_in_threads():
    entered, left = threading.Event(), threading.Event()

    def work() -> None:
        with fastdrop.accelerated():
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=work)
    with fastdrop.accelerated():
        thread.start()
        assert entered.wait(60)
    assert fastdrop.is_installed() and is_ours()
    left.set()
    thread.join()
    assert not fastdrop.is_installed() and not is_ours()


LIFE = """
import os
os.dup2(1, 2)  # what goes to stderr is to be seen
import torch, warnings
warnings.simplefilter("always")
import torch._inductor.config, torch._meta_registrations  # what import fastdrop may import of torch, and they change

def dispatcher():
    names = [name for name in torch._C._dispatch_get_all_op_names() if not name.startswith("fastdrop::")]
    return {name: torch._C._dispatch_dump(name) for name in names}

OPERATORS = OPERATORS_HERE
SHAPES = [(3, 40), (5, 60, 7, 8)]  # bernoulli_ leaves the first to torch

def draw(x, name):
    torch.manual_seed(0)
    if name == "bernoulli_":
        return x.bernoulli_(0.3)
    y = getattr(torch.ops.aten, name).default(x, 0.3, True)
    return torch.cat([part.flatten() for part in y]) if name == "native_dropout" else y

def masks():
    make = lambda grad, shape: torch.ones(shape, requires_grad=grad) * 1
    found = [draw(make(grad, shape), name) for name in OPERATORS for grad in (False, True) for shape in SHAPES]
    with torch.inference_mode():
        found += [draw(make(False, shape), name) for name in OPERATORS for shape in SHAPES]
    return found

def equal(some, others):
    return [torch.equal(x, y) for x, y in zip(some, others, strict=True)]

native, kernels, LAST = masks(), dispatcher(), 4 * (len(OPERATORS) - 1)
import fastdrop
assert dispatcher() == kernels, "import alone changes operators"
assert all(equal(masks(), native))
for bernoulli in (False, True, False):
    fastdrop.install(bernoulli=bernoulli)
    changed = equal(masks(), native)
    assert not any(changed[:LAST] + changed[LAST + 4 : -2]), changed
    assert changed[LAST : LAST + 4] == [True, not bernoulli] * 2
    assert changed[-2:] == [True, not bernoulli]
    fastdrop.uninstall()
    assert all(equal(masks(), native))
fastdrop.install()  # it ends so, and says nothing
""".replace("OPERATORS_HERE", str([*OPERATORS, "bernoulli_"]))


def test_uninstall_gives_natives_masks_back_bit_for_bit():
    assert run_python(LIFE) == ""


def test_operators_that_are_overridden_once_more(monkeypatch):
    """As after a call of install() that was interrupted: torch's own kernels are found all the same."""
    fastdrop.install()
    monkeypatch.setattr(install, "_overridden", set())
    fastdrop.install()
    for installed in (True, False):
        if not installed:
            fastdrop.uninstall()
        x = TwoTensor(torch.ones(300), torch.ones(300))
        y = torch.nn.functional.dropout(x, 0.5)  # torch's in any case
        assert set(y.a.tolist()) == set(y.b.tolist()) == {0.0, 2.0}
