"""Modules in graphs of torch.fx: leaves, as torch's own are, so that train() and eval() reach them."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import seeded
from joined import AddedToItself
from torch import nn

import fastdrop

X = torch.linspace(1, 2, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6)
LAYERS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "Dropout": (lambda: fastdrop.Dropout(), X),
    "Dropout, noise_shape": (lambda: fastdrop.Dropout(noise_shape=(None, None, 1, 1)), X),
    "Dropout1d": (lambda: fastdrop.Dropout1d(), X[0]),
    "Dropout2d": (lambda: fastdrop.Dropout2d(), X),
    "Dropout3d": (lambda: fastdrop.Dropout3d(), X),
    "AlphaDropout": (lambda: fastdrop.AlphaDropout(), X),
    "FeatureAlphaDropout": (lambda: fastdrop.FeatureAlphaDropout(), X),
    "DropoutAdd": (AddedToItself, X),
    "DropPath": (lambda: fastdrop.DropPath(0.5), X),
    "StochasticDepth": (lambda: fastdrop.StochasticDepth(0.5, "row"), X),
    "DropBlock2d": (lambda: fastdrop.DropBlock2d(0.3, 3), X),
    "DropBlock3d": (lambda: fastdrop.DropBlock3d(0.3, 3), X[None]),
    "GaussianDropout": (lambda: fastdrop.GaussianDropout(), X),
    "GaussianNoise": (lambda: fastdrop.GaussianNoise(0.5), X),
    "VariationalDropout": (lambda: fastdrop.VariationalDropout(), X[0]),
    "SpatialDropout1D": (lambda: fastdrop.SpatialDropout1D(0.5), X[0]),
    "SpatialDropout2D": (lambda: fastdrop.SpatialDropout2D(0.5), X),
    "SpatialDropout3D": (lambda: fastdrop.SpatialDropout3D(0.5), X[None]),
    "WordDropout": (lambda: fastdrop.WordDropout(0.5, value=1), torch.arange(200)),
    "EmbeddingDropout": (lambda: fastdrop.EmbeddingDropout(nn.Embedding(50, 3)), torch.arange(50)),
    "DropConnect": (lambda: fastdrop.DropConnect(nn.Linear(6, 6)), X),
    "replaced Dropout": (lambda: replaced(nn.Dropout()), X),
    "replaced FeatureAlphaDropout": (lambda: replaced(nn.FeatureAlphaDropout()), X),
}


class Inlining(torch.fx.Tracer):
    """A tracer that takes its own leaves besides."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, nn.Bilinear)


def replaced(model: nn.Module) -> nn.Module:
    fastdrop.replace(model)
    return model


def traced(model: nn.Module, tracer: type[torch.fx.Tracer] = torch.fx.Tracer) -> torch.fx.GraphModule:
    return torch.fx.GraphModule(model, tracer().trace(model))


def test_every_module_is_here():
    ours = {name for name in fastdrop.modules.__all__ if isinstance(getattr(fastdrop.modules, name), type)}
    assert {name for name in ours if name != "LockedDropout"} <= {name.split(",")[0] for name in LAYERS}


@pytest.mark.parametrize("tracer", [torch.fx.Tracer, Inlining])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_leaf(name, tracer):
    make, x = LAYERS[name]
    model = nn.Sequential(make(), nn.Identity())
    for built in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        graph = traced(built, tracer)
        assert [(node.op, node.target) for node in graph.graph.nodes][1:3] == [
            ("call_module", "0"),
            ("call_module", "1"),
        ]
        wanted = seeded(built, x)
        assert torch.equal(seeded(graph, x), wanted)
        assert not torch.equal(graph.eval()(x), wanted)
        assert torch.equal(graph(x), built.eval()(x))
        assert torch.equal(seeded(graph.train(), x), wanted)


def test_keys_go_through():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.connect = fastdrop.Dropout(), fastdrop.DropConnect(nn.Linear(6, 6))

        def forward(self, x: torch.Tensor, step: Any) -> torch.Tensor:
            return self.connect(self.drop(x, seed=7, offset=step), seed=step)

    model = Net()
    graph = traced(model)
    for step in (1, 2):
        assert torch.equal(graph(X, step), model(X, step))
    assert not torch.equal(graph(X, 1), graph(X, 2))


def test_hooks_run_once():
    layer, ran = fastdrop.Dropout(), []
    layer.register_forward_hook(lambda module, args, y: ran.append(1) or y + 1)
    graph = traced(nn.Sequential(layer))
    assert not ran
    y = graph(X)
    assert ran == [1]
    assert (y == 1).any() and torch.equal(y[y != 1], 2 * X[y != 1] + 1)


def test_a_restored_module_has_nothing_of_ours():
    layer = nn.Dropout()
    before = dict(vars(layer))
    fastdrop.replace(layer)
    fastdrop.restore(layer)
    assert vars(layer) == before
    assert layer.__module__ == nn.Dropout.__module__


def test_classes_keep_their_names():
    assert fastdrop.Dropout.__module__ == type(fastdrop.Dropout()).__module__ == "fastdrop.modules.dropout"


def test_dropout_can_be_taken_out_of_a_graph():
    model = nn.Sequential(nn.Linear(6, 6), fastdrop.Dropout(), nn.ReLU())
    from torch.fx.experimental.optimization import remove_dropout

    without = remove_dropout(model)
    assert torch.equal(without(X), model.eval()(X))
    assert [node.target for node in without.graph.nodes if node.op == "call_module"] == ["0", "2"]


@pytest.mark.filterwarnings("ignore")  # torch's own: this way to quantize has a successor
@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="needs the int8 kernels of x86")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_quantized_model(when):
    from torch.ao.quantization import get_default_qat_qconfig_mapping, quantize_fx

    def quantized(model: nn.Module, use: Callable[[nn.Module], Any] | None = None) -> nn.Module:
        if use and when == "before":
            use(model)
        prepared = quantize_fx.prepare_qat_fx(model.train(), get_default_qat_qconfig_mapping("x86"), (x,))
        if use and when == "after":
            use(prepared)
        for _ in range(4):
            prepared(x)
        if when == "after":
            fastdrop.restore(prepared)
        return quantize_fx.convert_fx(prepared.eval())

    torch.manual_seed(0)
    x, model = torch.randn(64, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4))
    ours = quantized(copy.deepcopy(model), fastdrop.replace)
    wanted, y = model.eval()(x), ours(x)
    assert torch.equal(ours(x), y)
    assert (y - wanted).abs().max() < 0.05 * wanted.abs().max()
    native = quantized(copy.deepcopy(model))
    if when == "after":
        assert [n.target for n in ours.graph.nodes] == [n.target for n in native.graph.nodes]
