"""Real models whose dropouts are replaced learn as native ones do, compiled too."""

import contextlib
import functools
import pathlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest
import torch
from functorch.compile import make_boxed_func
from real_models import DROPOUTS, WAYS, all_ways, build, gradients, losses, on_one_thread, task
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.convert_frame import register_bytecode_hook

import fastdrop

pytestmark = on_one_thread

STEPS: Final = 60
NATIVE_SEEDS, OUR_SEED = range(4), 100
T: Final = 12.92  # Student's t with 3 degrees of freedom, for 4 native seeds: beyond it once in a thousand times
LARGE: Final = [pytest.param(name, marks=pytest.mark.slow) for name in ("transformer", "gpt2")]
COMPILED: Final = ("encoder", "transformer", "gpt2", "cnn")  # Dynamo takes no LSTM


# Training


def final_loss(name: str, seed: int, way: str | None = None) -> float:
    learned = task(name)
    with WAYS[way](learned.model) if way else contextlib.nullcontext():
        return statistics.mean(losses(learned.model, learned, seed, STEPS)[-STEPS // 5 :])


@functools.cache
def native_band(name: str) -> tuple[float, float]:
    """Return where the final loss of one more native training would be, given the others'."""
    natives = [final_loss(name, seed) for seed in NATIVE_SEEDS]
    width = T * statistics.stdev(natives) * (1 + 1 / len(natives)) ** 0.5
    return statistics.mean(natives) - width, statistics.mean(natives) + width


@all_ways
@pytest.mark.sampled(3)
def test_training_reaches_natives_loss(name, way):
    low, high = native_band(name)
    assert low < final_loss(name, OUR_SEED, way) < high


# torch.compile


@pytest.fixture
def graphs() -> Iterator[list[torch.fx.GraphModule]]:
    """Collect the graphs that `recording` compiles."""
    torch._dynamo.reset()
    yield []
    torch._dynamo.reset()


def recording(graphs: list[torch.fx.GraphModule]) -> Any:
    """Return the backend aot_eager, which also keeps the graphs: forward, then backward."""

    def keep(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=keep, bw_compiler=keep)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.sampled(2)
def test_compiled_models_hold_our_operator_and_train_as_eager_ones(name, graphs):
    with fastdrop.accelerated():
        eager, other = task(name), task(name)
        wanted = losses(eager.model, eager, 1, 8)
        compiled = torch.compile(other.model, backend=recording(graphs), fullgraph=True)
        found = losses(compiled, other, 1, 8)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert found[-1] < found[0]
    assert len(graphs) == 2
    for graph in graphs:
        targets = Counter(str(node.target) for node in graph.graph.nodes)
        assert targets["fastdrop.dropout.default"] == DROPOUTS[name].elements + DROPOUTS[name].channels
        assert not [target for target in targets if "bernoulli" in target]


def compiled_files(step: Callable[[], Any]) -> set[pathlib.Path]:
    """Return the source files of all functions that are compiled with a training step, its backward and all."""
    found = set()
    hook = register_bytecode_hook(lambda code, _: found.add(pathlib.Path(code.co_filename)))
    torch.compile(step, backend="eager")()
    hook.remove()
    return found


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", ["encoder", "lstm", "cnn", *LARGE])
@pytest.mark.sampled(2)
def test_our_own_functions_are_not_compiled(name, graphs):
    model = build(name)
    inputs = model.draw(2)
    with fastdrop.accelerated():
        files = compiled_files(lambda: gradients(model.module, model.module(*inputs)))
    assert pathlib.Path(__file__) in files
    assert not [file for file in files if pathlib.Path(fastdrop.__file__).parent in file.parents]
