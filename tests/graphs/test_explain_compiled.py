"""`fastdrop.explain` and compiled code: operators are counted when they run, and nothing is compiled again for it."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import fastdrop
from fastdrop import functional

pytestmark = pytest.mark.usefixtures("nothing_compiled")


def ours(x: torch.Tensor) -> torch.Tensor:
    y = functional.dropout_add(functional.dropout(x), x, 0.5)
    y = functional.drop_block2d(functional.dropout(y, training=False)[None, None], 0.1, 3)[0, 0]
    return functional.alpha_dropout(y, training=True) * functional.word_dropout(torch.arange(8), 0.5, 1)


def torchs(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(torch.nn.functional.alpha_dropout(x, 0.5, True)) + torch.nn.functional.dropout(x)


@pytest.mark.parametrize("function", [ours, torchs])
@pytest.mark.parametrize("inside_first", [False, True])
def test_operators_are_counted_when_they_run(installed, function, inside_first):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, backend=counter, fullgraph=True)
    x = torch.ones(8, 8, requires_grad=True)
    if not inside_first:
        compiled(x)
    with fastdrop.explain() as report:
        compiled(x).sum().backward()
        compiled(x)
    compiled(x)
    assert counter.frame_count == 1
    assert [row[:5] for row in report.rows] == [
        ("fastdrop::dropout", "graph operator", "compiled code", 4, 256),
        ("fastdrop::dropout (alpha_dropout)", "graph operator", "compiled code", 2, 128),
    ]


def test_an_operator_without_a_kernel_is_counted_too():
    operator = torch.ops.fastdrop.dropout
    with fastdrop.explain() as report:
        operator(torch.ones(4, dtype=torch.complex64, requires_grad=True), 0.5, torch.tensor(1)).real.sum().backward()
    assert [row[:4] for row in report.rows] == [("fastdrop::dropout", "graph operator", "compiled code", 1)]
