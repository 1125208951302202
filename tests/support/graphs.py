"""Dropout in graphs: how code is compiled, for which tensors and seeds, and what it has to give."""

import shutil
import sys
from collections.abc import Callable
from typing import Any

import exact
import oracle
import pytest
import torch
from oracle import assert_same_bits, meaningful_strides
from torch._dynamo.testing import CompileCounterWithBackend

MARKS = [
    pytest.mark.usefixtures("nothing_compiled"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

Function = Callable[..., Any]
operator = torch.ops.fastdrop.dropout.default
P, SEED = 0.3, 2**63 + 5
HALF = 0.5  # with integers all is exact, in whatever order it is computed
SEEDS = [5, 6, 2**32, 2**63 - 1, 2**62 + 1, 0]
LARGE_SEEDS = [2**63, 2**64 - 1, 2**63 + 77]
SIZES = [(4, 7), (5, 9), (40, 60), (7, 4), (16, 5)]

NO_COMPILER = sys.platform != "linux" or not (shutil.which("g++") or shutil.which("clang++"))
INDUCTOR = pytest.param("inductor", marks=pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler"))
BACKENDS = pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])


def compiled(function: Function, backend: str = "aot_eager", **options: Any) -> Function:
    return torch.compile(function, backend=backend, fullgraph=True, **options)


def counted(
    function: Function, backend: str = "aot_eager", **options: Any
) -> tuple[Function, CompileCounterWithBackend]:
    """Return a compiled function, and what counts its graphs (a p that is no literal takes two, as native's does)."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True, **options), counter


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def leaf(x: torch.Tensor) -> torch.Tensor:
    return x.detach().requires_grad_()


def gradient(y: torch.Tensor, x: torch.Tensor, grad_output: torch.Tensor | None = None) -> torch.Tensor:
    return torch.autograd.grad(y, x, torch.ones_like(y) if grad_output is None else grad_output)[0]


def seeded(function: Function, *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


def tensor(seed: int) -> torch.Tensor:
    """Return a seed as the operators take it."""
    return torch.tensor(seed - 2**64 if seed >= 2**63 else seed)


def turned(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor of this shape whose dimensions lie in memory the other way round."""
    return values(*reversed(shape), dtype=dtype).permute(tuple(reversed(range(len(shape)))))


def factors(x: torch.Tensor, seed: int = SEED) -> torch.Tensor:
    """Return what dropout with p = HALF multiplies each element of x by."""
    return exact.factors(x, HALF, seed)


def assert_dropout(y: torch.Tensor, x: torch.Tensor, seed: int = SEED, offset: int = 0) -> None:
    """Check a dropout of a leaf x, its gradient for one of another layout, and that no graph changed its strides."""
    assert_same_bits(y, oracle.dropout(x.detach(), P, seed, offset))
    assert meaningful_strides(y) == meaningful_strides(torch.empty_like(x))
    if x.requires_grad:
        grad_output = turned(*x.shape, dtype=x.dtype)
        wanted = oracle.apply(grad_output, oracle.keep(x, P, seed, offset), P)
        assert_same_bits(gradient(y, x, grad_output), wanted)


def calls(graph: torch.fx.GraphModule, target: Any = operator) -> int:
    """Return how often a graph calls an operator."""
    return sum(node.target is target for node in graph.graph.nodes)


LAYOUTS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "contiguous": lambda dtype: values(6, 40, dtype=dtype),
    "transposed": lambda dtype: values(40, 6, dtype=dtype).t(),
    "channels_last": lambda dtype: values(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last),
    "permuted": lambda dtype: values(3, 4, 5, dtype=dtype).permute(2, 0, 1),
    "sliced": lambda dtype: values(6, 80, dtype=dtype)[:, ::2],
    "expanded": lambda dtype: values(6, 1, dtype=dtype).expand(6, 40),
    "shifted": lambda dtype: values(300, dtype=dtype)[17:],
    "of one row": lambda dtype: values(1, 40, 6, dtype=dtype).permute(2, 0, 1),
    "0-d": lambda dtype: values(dtype=dtype),
    "empty": lambda dtype: values(0, 4, dtype=dtype),
    "sliced and transposed": lambda dtype: values(6, 80, dtype=dtype)[:, ::2].t(),
}
ALL_LAYOUTS = pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
