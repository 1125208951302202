"""install() under torch.func's transforms, dispatch modes, autocast, fake tensors and checkpoints."""

import functools
import threading
from contextlib import nullcontext
from typing import Any

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils import checkpoint as checkpoints
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from torch_operators import OPERATORS, Call, P, assert_near, dropped, every_operator, outcome, randn, reference, seeds
from watch import Watch

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")


def transforms(function: Call) -> dict[str, Call]:
    """Return calls of torch.func's transforms of a function."""
    x = randn(3, 4, 5)

    def total(x: torch.Tensor) -> torch.Tensor:
        return function(x).sum()

    return {
        "error": lambda: torch.vmap(function)(x),
        "same": lambda: torch.vmap(function, randomness="same")(x),
        "different": lambda: torch.vmap(function, randomness="different")(x),
        "unbatched": lambda: torch.vmap(lambda i: i * function(randn(4, 5)), randomness="different")(torch.ones(3)),
        "grad": lambda: torch.func.grad(total)(x),
        "jvp": lambda: torch.func.jvp(function, (x,), (x,)),
        "vmap of grad": lambda: torch.vmap(torch.func.grad(total), randomness="different")(x),
        "jacrev": lambda: torch.func.jacrev(function)(x[0]),
        "functionalize": lambda: torch.func.functionalize(function)(x),
    }


@every_operator
def test_transforms(name):
    for what, function in transforms(lambda x: dropped(name, x * 1)).items():
        native = outcome(function)
        with fastdrop.accelerated():
            ours = outcome(function)
        if name == "native_dropout" and isinstance(native, list):  # below the transform it meets a plain tensor
            native, ours = ([each[:-1] for each in result] for result in (native, ours))
        assert ours == native, what


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # torch's own
@every_operator
def test_linearized(installed, name):
    x = randn(3, 4, 5)
    y, tangent_of = torch.func.linearize(lambda x: dropped(name, x * 1), x)  # with masks of their own, as native's are
    for result in (y, tangent_of(x)):
        assert 0 < (result == result.flatten().mode().values).sum() < x.numel()


class Copies(TorchDispatchMode):
    """Copy what each operator returns when it does, and so not what a kernel writes there later."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Copy it."""
        result = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves(result)
        self.seen += [each.clone() for each in leaves if isinstance(each, torch.Tensor)]
        return result


@every_operator
def test_dispatch_modes_see_operators_and_get_the_same_mask(installed, name):
    x = randn(3, 4).requires_grad_()
    results = []
    for mode in (nullcontext(), copies := Copies()):
        torch.manual_seed(0)
        with mode:
            y = dropped(name, x * 1)
        results.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert torch.equal(copies.seen[-2 if name == "native_dropout" else -1], y)  # its last result is a mask
    assert all(each.dtype is not torch.int64 for each in copies.seen)  # seeds are none of its business


def test_dispatch_mode_around_a_tangent(installed):
    x = randn(30, 4)
    with forward_ad.dual_level(), Watch():
        y = forward_ad.unpack_dual(torch.native_dropout(forward_ad.make_dual(x, 2 * x), P, True)[0])
    assert torch.equal(y.tangent, 2 * y.primal)


@pytest.mark.parametrize("dtype", FLOATS)
@every_operator
def test_autocast(name, dtype):
    x = randn(3, 4).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        native = dropped(name, x.clone())
        (seed,) = seeds()
        with fastdrop.accelerated():
            y = dropped(name, x.clone())
    assert y.dtype is native.dtype
    assert_near(y, reference(name, x.double(), seed))


@every_operator
def test_fake_tensor_mode(installed, name):
    with FakeTensorMode() as mode:
        inside = dropped(name, torch.ones(3, 4))
    outside = dropped(name, mode.from_tensor(torch.ones(3, 4)))
    for y in (inside, outside):
        assert type(y) is FakeTensor and (y.shape, y.dtype, y.stride()) == ((3, 4), torch.float32, (4, 1))
    (seed,) = seeds()
    assert_same_bits(F.dropout(torch.ones(99), P), oracle.dropout(torch.ones(99), P, seed))


@pytest.mark.parametrize("mode", [Watch, lambda: torch.device("meta"), FakeTensorMode])
def test_first_draw_of_a_thread_in_a_mode_spoils_no_later_one(installed, mode):
    results = []

    def work() -> None:
        with mode():
            for name in OPERATORS:
                dropped(name, torch.ones(3, 4))
        results.extend(F.dropout(torch.ones(200), 0.5) for _ in range(2))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    one, two = (set(y.tolist()) for y in results)
    assert one == two == {0.0, 2.0}
    assert not torch.equal(*results)


SQUARES = {name: (lambda x, name=name: dropped(name, x * 1) ** 2) for name in OPERATORS}


def assert_gradient_of_square(y: torch.Tensor, grad: torch.Tensor, x: torch.Tensor) -> None:
    """Check that y is the square of what is linear in x where the gradient is not 0, and otherwise the same all over.

    So it can be told from one mask or from two.
    """
    kept = grad != 0
    assert 0 < kept.sum() < kept.numel()
    assert len(y[~kept].unique()) == 1
    torch.testing.assert_close((grad**2 / y)[kept], (grad**2 / y)[kept][:1].expand_as(y[kept]))


@pytest.mark.parametrize("watched", [nullcontext, lambda: FlopCounterMode(display=False)], ids=["plain", "watched"])
@pytest.mark.parametrize("form", ["reentrant", "not reentrant", "selective"])
@pytest.mark.parametrize("name", SQUARES)
def test_checkpoint_repeats_its_mask(installed, name, form, watched):
    """A mode may be on in the backward only: the second run has to give the first one's mask."""
    x = randn(6, 7, 4).requires_grad_()
    how: dict[str, Any] = {"use_reentrant": form == "reentrant"}
    if form == "selective":
        how["context_fn"] = functools.partial(
            checkpoints.create_selective_checkpoint_contexts, [torch.ops.aten.mm.default]
        )
    y = checkpoint(SQUARES[name], x, **how)
    with watched():
        y.sum().backward()
    assert_gradient_of_square(y.detach(), x.grad, x.detach())
