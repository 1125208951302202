"""Compiled autograd: a backward of eager dropouts becomes one graph, with the masks of the forward."""

from collections.abc import Callable

import family_cases
import pytest
import torch
from exact import integers
from graphs import HALF, INDUCTOR, MARKS, leaf, values
from oracle import assert_same_bits
from torch._dynamo import compiled_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from fastdrop.functional import dropout, dropout2d

pytestmark = [*MARKS, pytest.mark.filterwarnings("error:Dynamo does not know how to trace")]

Function = Callable[[torch.Tensor], torch.Tensor]


def gradient(function: Function, x: torch.Tensor, run: int) -> torch.Tensor:
    torch.manual_seed(run)
    x = leaf(x)
    function(x).backward()
    assert x.grad is not None
    return x.grad


def assert_compiled(function: Function, x: torch.Tensor, graphs: int = 2, backend: str = "aot_eager") -> None:
    """Check gradients of a function's sum of squares, of which the graph is whole, and compiled once or twice.

    Dynamo takes a seed for a constant at first, and at the second call for a number that may change.
    """
    counter = CompileCounterWithBackend(backend)
    for run in range(3):
        wanted = gradient(lambda x: (function(x) ** 2).sum(), x, run)
        torch.manual_seed(run)
        y = leaf(x)
        loss = (function(y) ** 2).sum()
        with compiled_autograd._enable(torch.compile(backend=counter, fullgraph=True)):
            loss.backward()
        torch.testing.assert_close(y.grad, wanted, rtol=1e-6, atol=1e-6)
        assert_same_bits((y.grad == 0).to(torch.float32), (wanted == 0).to(torch.float32))
    assert counter.frame_count <= graphs


FAMILY = [  # one for each way that a backward goes
    "dropout", "dropout, mask of rows", "dropout, mask between", "dropout2d, channels last", "alpha_dropout",
    "gaussian_dropout", "gaussian_noise", "drop_path, unscaled", "drop_block2d", "drop_connect", "embedding_dropout",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.sampled(3)
def test_family(name):
    case = family_cases.CASES[name]
    assert_compiled(case.function, case.input())


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "make", [lambda: values(7, 6).t(), lambda: values(6, 14)[:, ::2]], ids=["transposed", "sliced"]
)
@pytest.mark.sampled(2)
def test_layouts(make, inplace):
    assert_compiled(lambda x: dropout(x.clone(), HALF, True, inplace), make())


@pytest.mark.parametrize("backend", ["eager", INDUCTOR])
def test_backends(backend):
    assert_compiled(lambda x: dropout(dropout(x, HALF).sin(), HALF), values(6, 40), backend=backend)


def test_complex_numbers():
    assert_compiled(lambda x: dropout(torch.complex(x, x), HALF, seed=4).abs(), values(6, 40), graphs=1)


def test_nodes_that_torch_func_made():
    by_rows = torch.func.vmap(lambda x: dropout(x, HALF), randomness="different")
    assert_compiled(lambda x: by_rows(x).sin(), values(3, 40))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.nn.functional.dropout(x, HALF),
        lambda x: torch.nn.functional.dropout(x.clone(), HALF, inplace=True),
        lambda x: torch.nn.functional.dropout2d(x[None, ..., None], HALF),
        lambda x: torch.nn.functional.alpha_dropout(x, HALF, training=True),
    ],
    ids=["dropout", "in place", "2d", "alpha"],
)
@pytest.mark.sampled(2)
def test_installed(function):
    assert_compiled(function, values(6, 40))


def test_sizes_may_change():
    counter = CompileCounterWithBackend("aot_eager")
    for rows in (4, 5, 6):
        x = leaf(integers(rows, 3, 8, 8))
        y = dropout2d(x, HALF) * 3
        loss = y.sum()
        with compiled_autograd._enable(torch.compile(backend=counter, fullgraph=True, dynamic=True)):
            loss.backward()
        assert_same_bits(x.grad, y.detach() / x.detach())
    assert counter.frame_count <= 3
