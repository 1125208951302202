"""ONNX of a training model: the nodes that torch's own modules become."""

import contextlib
import functools
import io
from typing import Any

import pytest
import torch
from family_cases import CASES
from torch import nn

import fastdrop

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own exporter's: of itself, of onnxscript, of torchvision

SHAPES = {"1d": (2, 3, 5), "2d": (2, 3, 4, 5), "3d": (2, 3, 4, 5, 2)}
NATIVE = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout]
HOWS = ("built", "replaced", "installed")
HOW = pytest.mark.parametrize("how", HOWS)


def nodes(graph: Any) -> list[tuple[Any, ...]]:
    """Return what each node does to which values."""
    return [
        (n.domain, n.op_type, list(n.input), list(n.output), [(a.name, str(a)) for a in n.attribute])
        for n in graph.node
    ]


def by_dynamo(model: nn.Module, x: torch.Tensor) -> Any:
    return torch.onnx.export(model.train(), (x,), dynamo=True, verbose=False).model_proto.graph


def by_torchscript(model: nn.Module, x: torch.Tensor) -> Any:
    file = io.BytesIO()
    training = torch.onnx.TrainingMode.TRAINING
    torch.onnx.export(model.train(), (x,), file, dynamo=False, training=training, do_constant_folding=False)
    return onnx.load_from_string(file.getvalue()).graph


def ours(layer: type[nn.Module], how: str) -> nn.Module:
    model = nn.Sequential(getattr(fastdrop, layer.__name__)(0.3) if how == "built" else layer(0.3))
    if how == "replaced":
        fastdrop.replace(model)
    return model


def input_of(layer: type[nn.Module]) -> torch.Tensor:
    return torch.randn(SHAPES.get(layer.__name__[-2:], (4, 6)))


@functools.cache
def torchs_nodes(layer: type[nn.Module]) -> list[tuple[Any, ...]]:
    return nodes(by_dynamo(nn.Sequential(layer(0.3)), input_of(layer)))


@pytest.mark.parametrize(
    ("layer", "how"),
    [
        pytest.param(layer, how, marks=() if (i + 2 * j) % 6 == 0 else pytest.mark.slow)  # an export takes seconds
        for i, layer in enumerate(NATIVE)
        for j, how in enumerate(HOWS)
    ],
)
def test_nodes_are_those_of_torchs_module(layer, how):
    x, wanted = input_of(layer), torchs_nodes(layer)
    assert wanted
    with fastdrop.accelerated() if how == "installed" else contextlib.nullcontext():
        assert nodes(by_dynamo(ours(layer, how), x)) == wanted
    assert (wanted[0][1] == "Dropout") == (layer is nn.Dropout)


@HOW
def test_the_older_exporter(how):
    x = torch.randn(4, 6)
    wanted = [node.op_type for node in by_torchscript(nn.Sequential(nn.Dropout(0.3)), x).node]
    assert "Dropout" in wanted
    with fastdrop.accelerated() if how == "installed" else contextlib.nullcontext():
        assert [node.op_type for node in by_torchscript(ours(nn.Dropout, how), x).node] == wanted


@pytest.mark.parametrize("name", ["gaussian_dropout", "drop_path", "drop_block2d", "embedding_dropout", "drop_connect"])
@pytest.mark.sampled(2)
def test_what_torch_has_no_operator_for(name):
    class Calls(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return CASES[name].function(x)

    operators = {node[1] for node in nodes(by_dynamo(Calls(), CASES[name].input()))}
    assert operators & {"RandomUniformLike", "RandomNormalLike", "Dropout"}
