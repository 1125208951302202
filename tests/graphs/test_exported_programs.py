"""What an exported program holds of the family: torch's own operators, so that it runs and is read without fastdrop."""

import contextlib
import functools
from typing import Any

import pytest
import torch
from family_cases import CASES
from graphs import MARKS, seeded
from torch import nn

import fastdrop

LOWERED = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
pytestmark = [*MARKS, LOWERED]

SHAPES = {"1d": (2, 3, 5), "2d": (2, 3, 4, 5), "3d": (2, 3, 4, 5, 2)}
NATIVE = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout]
HOWS = ("built", "replaced", "installed")
STRICT = pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def nodes(program: torch.export.ExportedProgram) -> list[tuple[Any, ...]]:
    return [(node.op, node.target, str(node.args), str(node.kwargs)) for node in program.graph.nodes]


def exported(model: nn.Module, x: torch.Tensor, strict: bool = False) -> torch.export.ExportedProgram:
    return torch.export.export(model.train(), (x,), strict=strict)


def input_of(layer: type[nn.Module]) -> torch.Tensor:
    """Return an input, the same at each call."""
    shape = SHAPES.get(layer.__name__[-2:], (4, 6))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@functools.cache
def torchs_program(layer: type[nn.Module], strict: bool) -> tuple[Any, Any, torch.Tensor]:
    """Return the nodes of the program of torch's module, exported and lowered, and what it computes for a seed."""
    program = exported(nn.Sequential(layer(0.3)), input_of(layer), strict)
    lowered = program.run_decompositions()
    return nodes(program), nodes(lowered), seeded(lowered.module(), input_of(layer))


@pytest.mark.parametrize(
    ("layer", "strict", "how"),
    [
        pytest.param(layer, strict, how, marks=() if (i + 2 * j + 3 * strict) % 6 == 0 else pytest.mark.slow)
        for i, layer in enumerate(NATIVE)
        for strict in (True, False)
        for j, how in enumerate(HOWS)
    ],
)
def test_a_program_is_the_one_that_torchs_module_gives(layer, strict, how):
    x = input_of(layer)
    wanted, lowered, result = torchs_program(layer, strict)
    ours = nn.Sequential(getattr(fastdrop, layer.__name__)(0.3) if how == "built" else layer(0.3))
    if how == "replaced":
        fastdrop.replace(ours)
    with fastdrop.accelerated() if how == "installed" else contextlib.nullcontext():
        program = exported(ours, x, strict)
        decomposed = program.run_decompositions()
    assert nodes(program) == wanted
    assert nodes(decomposed) == lowered
    assert torch.equal(seeded(decomposed.module(), x), result)


@pytest.mark.parametrize(("name", "strict"), [*((name, False) for name in CASES), ("drop_path", True)])
@pytest.mark.sampled(3)
def test_no_program_needs_fastdrop_and_each_run_draws(name, strict):
    case = CASES[name]
    x = torch.cat([case.input()] * 10) if name.startswith(("stochastic", "drop_path")) else case.input()
    program = exported(Calls(case.function), x, strict)
    for one in (program, program.run_decompositions()):
        assert not [node for node in one.graph.nodes if "fastdrop" in str(node.target)]
    run = program.module()
    runs = torch.stack([run(x) for _ in range(20)])
    assert not torch.equal(runs.amin(0), runs.amax(0))


@pytest.mark.skipif(torch.__version__ < "2.11", reason="torch 2.10 exports no program with a generator in it")
def test_a_generator_keeps_our_operator():
    program = exported(fastdrop.DropPath(0.5, generator=torch.Generator()), torch.ones(50, 3))
    assert "fastdrop.dropout.default" in [str(node.target) for node in program.graph.nodes]
    rows = program.module()(torch.ones(50, 3)).unique(dim=0)
    assert rows.tolist() == [[0.0] * 3, [2.0] * 3]


@STRICT
def test_word_dropout(strict):
    words = torch.arange(2, 402).reshape(20, 20)
    run = exported(fastdrop.WordDropout(0.5, value=1), words, strict).module()
    first, second = run(words), run(words)
    for y in (first, second):
        assert set((y / words).unique().tolist()) > {1.0} and torch.equal(y[y != 1], words[y != 1])
        assert 100 < int((y == 1).sum()) < 300  # 200 +- 10
    assert not torch.equal(first, second)


def test_compiled_code_keeps_our_operator_before_and_after_an_export():
    layer, x = fastdrop.Dropout(0.5), torch.ones(300)
    run = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert torch.equal(seeded(run, x), seeded(layer, x))
        exported(layer, x, strict=True)
        torch.compiler.reset()
