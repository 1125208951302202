"""install(): functions, modules and models that are made of torch's operators, scripted, traced and copied too."""

import copy
import functools
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch_operators import INFINITIES, P, drops_as_ours, randn, reference, seeds

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")


def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.jit.script(nn.Sequential(nn.Identity(), nn.Dropout(P)))(x)


def traced(x: torch.Tensor) -> torch.Tensor:
    trace = torch.jit.trace(nn.Dropout(P), torch.ones(3), check_trace=False)
    torch.manual_seed(0)  # again, for the trace has drawn
    return trace(x)


CALLS = {
    "F.dropout": ("dropout", (7, 9), lambda x: F.dropout(x, P)),
    "F.dropout in place": ("dropout", (7, 9), lambda x: F.dropout(x * 1, P, inplace=True)),
    "torch.dropout": ("dropout", (7, 9), lambda x: torch.dropout(x, P, True)),
    "torch.dropout_": ("dropout", (7, 9), lambda x: torch.dropout_(x * 1, P, True)),
    "torch.native_dropout": ("dropout", (7, 9), lambda x: torch.native_dropout(x, P, True)[0]),
    "F.dropout1d": ("feature_dropout", (6, 7, 8), lambda x: F.dropout1d(x, P)),
    "F.dropout1d unbatched": ("feature_dropout", (1, 60, 8), lambda x: F.dropout1d(x[0], P)[None]),
    "F.dropout2d": ("feature_dropout", (6, 7, 3, 2), lambda x: F.dropout2d(x, P)),
    "F.dropout2d in place": ("feature_dropout", (6, 7, 3, 2), lambda x: F.dropout2d(x * 1, P, inplace=True)),
    "F.dropout3d": ("feature_dropout", (6, 7, 3, 2, 2), lambda x: F.dropout3d(x, P)),
    "torch.feature_dropout": ("feature_dropout", (6, 7, 3), lambda x: torch.feature_dropout(x, P, True)),
    "F.alpha_dropout": ("alpha_dropout", (7, 9), lambda x: F.alpha_dropout(x, P, True)),
    "F.alpha_dropout in place": ("alpha_dropout", (7, 9), lambda x: F.alpha_dropout(x * 1, P, True, inplace=True)),
    "F.feature_alpha_dropout": ("feature_alpha_dropout", (6, 7, 3), lambda x: F.feature_alpha_dropout(x, P, True)),
    "nn.Dropout": ("dropout", (7, 9), nn.Dropout(P)),
    "nn.Dropout1d": ("feature_dropout", (6, 7, 3), nn.Dropout1d(P)),
    "nn.Dropout2d": ("feature_dropout", (6, 7, 3, 2), nn.Dropout2d(P)),
    "nn.Dropout3d": ("feature_dropout", (6, 7, 3, 2, 2), nn.Dropout3d(P)),
    "nn.AlphaDropout": ("alpha_dropout", (7, 9), nn.AlphaDropout(P)),
    "nn.FeatureAlphaDropout": ("feature_alpha_dropout", (6, 7, 3), nn.FeatureAlphaDropout(P)),
    "scripted": ("dropout", (7, 9), scripted),
    "traced": ("dropout", (7, 9), traced),
    "checkpoint": ("dropout", (7, 9), lambda x: checkpoint(nn.Dropout(P), x, use_reentrant=False)),
    "reentrant checkpoint": ("dropout", (7, 9), lambda x: checkpoint(nn.Dropout(P), x, use_reentrant=True)),
    "deepcopy": ("dropout", (7, 9), lambda x: copy.deepcopy(nn.Dropout(P))(x)),
    "pickle": ("dropout", (7, 9), lambda x: pickle.loads(pickle.dumps(nn.Dropout(P)))(x)),
}


def assert_agree(y: torch.Tensor, wanted: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Check values and gradients."""
    torch.testing.assert_close(y, wanted)
    grad_output = randn(*y.shape)
    gradients = (torch.autograd.grad(result, inputs, grad_output, retain_graph=True) for result in (y, wanted))
    for grad, grad_wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(grad, grad_wanted)


@pytest.mark.parametrize(("name", "shape", "function"), CALLS.values(), ids=CALLS)
def test_functions_and_modules(installed, name, shape, function):
    x = randn(*shape).requires_grad_()
    (seed,) = seeds()
    # Not torch.autograd.grad, which a reentrant checkpoint refuses.
    y, grad_output = function(x), randn(*shape)
    y.backward(grad_output)
    wanted = reference(name, x, seed)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(x.grad, torch.autograd.grad(wanted, x, grad_output)[0])


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seed: int) -> torch.Tensor:
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return reference("dropout", weights, seed) @ v


def self_attention(layer: nn.MultiheadAttention, x: torch.Tensor, seed: int) -> torch.Tensor:
    projected = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    heads = attention(*(part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in projected), seed)
    y = layer.out_proj(heads.transpose(1, 2).flatten(2))
    return y.transpose(0, 1).contiguous().transpose(0, 1)  # as torch's, whose mask follows memory: length first


def test_scaled_dot_product_attention(installed):
    q, k, v = (randn(2, 3, length, 8).requires_grad_() for length in (5, 6, 6))
    (seed,) = seeds()
    assert_agree(F.scaled_dot_product_attention(q, k, v, dropout_p=P), attention(q, k, v, seed), [q, k, v])


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(installed, need_weights):
    layer = nn.MultiheadAttention(12, 3, dropout=P, batch_first=True, dtype=torch.float64)
    x = randn(4, 7, 12).requires_grad_()
    (seed,) = seeds()
    y, _ = layer(x, x, x, need_weights=need_weights)
    assert_agree(y, self_attention(layer, x, seed), [x, *layer.parameters()])


def test_transformer_encoder_layer(installed):
    layer = nn.TransformerEncoderLayer(12, 3, 20, P, batch_first=True, dtype=torch.float64)
    x = randn(4, 7, 12).requires_grad_()
    drop = functools.partial(reference, "dropout")
    one, two, three, four = seeds(4)
    attended = layer.norm1(x + drop(self_attention(layer.self_attn, x, one), two))
    fed = layer.linear2(drop(layer.linear1(attended).relu(), three))
    wanted = layer.norm2(attended + drop(fed, four))
    assert_agree(layer(x), wanted, [x, *layer.parameters()])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers_of_recurrent_networks(installed, cls, bidirectional):
    model = cls(3, 5, num_layers=2, dropout=P, bidirectional=bidirectional, dtype=torch.float64)
    sizes = (3, 10 if bidirectional else 5)
    layers = [cls(size, 5, bidirectional=bidirectional, dtype=torch.float64) for size in sizes]
    for i, layer in enumerate(layers):
        weights = {key: value for key, value in model.state_dict().items() if f"_l{i}" in key}
        layer.load_state_dict({key.replace(f"_l{i}", "_l0"): value for key, value in weights.items()})
    x = randn(6, 4, 3).requires_grad_()
    (seed,) = seeds()
    wanted = layers[1](reference("dropout", layers[0](x)[0], seed))[0]
    assert_agree(model(x)[0], wanted, [x])


def test_scripted_and_traced_models_from_before():
    script = torch.jit.script(nn.Sequential(nn.Dropout(0.5)))
    trace = torch.jit.trace(nn.Dropout(0.5), torch.ones(3), check_trace=False)
    leaf = INFINITIES.clone().requires_grad_()
    for model in (script, trace):
        assert not drops_as_ours(model)
        with fastdrop.accelerated():
            assert all(drops_as_ours(model, x) for x in (INFINITIES, leaf) for _ in range(3))  # it optimizes then
        assert not drops_as_ours(model)


def test_trace_made_when_installed_holds_torchs_operator():
    with fastdrop.accelerated():
        trace = torch.jit.trace(nn.Dropout(0.5), torch.ones(3), check_trace=False)
        assert "aten::dropout" in str(trace.graph) and "fastdrop" not in str(trace.graph)
        assert drops_as_ours(trace)
    assert not drops_as_ours(trace)


def test_models_are_copied_and_saved_as_before(installed):
    model = nn.TransformerEncoderLayer(4, 2, 8, P)
    assert [type(each) for each in copy.deepcopy(model).modules()] == [type(each) for each in model.modules()]
    assert b"fastdrop" not in pickle.dumps(model)
    assert type(pickle.loads(pickle.dumps(nn.Dropout(P)))) is nn.Dropout
