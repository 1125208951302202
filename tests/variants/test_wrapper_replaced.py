"""Modules within a wrapper that are replaced by their names, and members that are named like the wrapper's own."""

import copy
import pickle

import oracle
import pytest
import torch
from embeddings import OFFSET, SEED, P
from oracle import assert_same_bits
from torch import nn
from torch.func import functional_call
from torch.nn.functional import embedding, linear

from fastdrop import DropConnect, EmbeddingDropout

WORDS = torch.tensor([[0, 3, 1], [3, 3, 4]])
MAKE = {
    "DropConnect": lambda: (DropConnect(nn.Linear(8, 8), P), torch.eye(8)),
    "EmbeddingDropout": lambda: (EmbeddingDropout(nn.Embedding(5, 8), P), WORDS),
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)
    torch._dynamo.reset()


def replace_by_name(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a module as peft and quantizers do."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


@EACH
def test_a_wrapped_module_that_is_put_into_another(make):
    layer, x = make()
    model = nn.Sequential(layer)
    wanted = model[0](x, seed=SEED, offset=OFFSET)
    state, old = copy.deepcopy(model.state_dict()), layer.wrapped
    assert dict(model.named_modules())["0.wrapped"] is old
    replace_by_name(model, "0.wrapped", nn.Sequential(old, nn.Identity()))
    assert list(model.state_dict()) == [name.replace("0.", "0.0.", 1) for name in state]
    assert [name for name, _ in model.named_parameters()] == list(model.state_dict())
    assert list(dict(model.named_modules())) == ["", "0", "0.0", "0.1", "0.wrapped"]
    assert all(model.get_submodule(name) is module for name, module in model.named_modules())
    assert_same_bits(model[0](x, seed=SEED, offset=OFFSET), wanted)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert not layer.wrapped.training and not old.training
    assert torch.equal(model(x), old(x))
    model.double()
    assert old.weight.dtype is torch.float64
    replace_by_name(model, "0.0", copy.deepcopy(old))
    assert old not in set(model.modules())


@EACH
@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_all_follows_a_new_module_of_the_same_kind(make, make_copy):
    layer, x = make()
    other = make()[0].wrapped
    layer.wrapped = other
    assert all(parameter is own for parameter, own in zip(layer.parameters(), other.parameters(), strict=True))
    assert layer.weight is other.weight
    layer.load_state_dict({name: torch.ones_like(tensor) for name, tensor in other.state_dict().items()})
    assert (other.weight == 1).all()
    twin = make_copy(layer)
    twin.wrapped = make_copy(other)
    with torch.no_grad():
        twin.wrapped.weight.zero_()
    assert twin.weight.count_nonzero() == 0 and (layer.weight == 1).all()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in layer.state_dict().items()}
    assert functional_call(layer, zeros, (x,)).count_nonzero() == 0
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x, seed=SEED), layer(x, seed=SEED))


def test_children_that_are_replaced():
    layer, x = DropConnect(nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()), 1.0), torch.eye(8)
    replace_by_name(layer, "1", nn.Linear(8, 8))
    assert layer.weights == ("0.weight", "1.weight")
    assert torch.equal(layer(x), layer.get_parameter("1.bias").expand(8, 8))
    replace_by_name(layer, "0", nn.Sequential(layer.get_submodule("0")))
    assert layer.weights == ("0.0.weight", "1.weight")
    assert torch.equal(layer(x), layer.get_parameter("1.bias").expand(8, 8))
    nested = DropConnect(DropConnect(nn.Linear(8, 8), 0.5), 0.5)
    replace_by_name(nested, "wrapped.wrapped", nn.Sequential(nn.Linear(8, 8)))
    assert list(nested.state_dict()) == ["0.weight", "0.bias"]
    assert nested.weights == ("0.weight",)


def test_a_layer_with_a_weight_that_is_anothers():
    class Adapted(nn.Module):  # as peft's
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base_layer, self.adapter = base, nn.Linear(8, 8, bias=False)

        @property
        def weight(self) -> torch.Tensor:
            return self.base_layer.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base_layer(x) + self.adapter(x)

    base = nn.Linear(8, 8, bias=False)
    for weights, names in ((None, ("base_layer.weight", "adapter.weight")), (["weight"], ("weight",))):
        layer = DropConnect(base, P, weights)
        layer.wrapped = Adapted(base)
        assert layer.weights == names
        y = layer(torch.eye(8), seed=SEED, offset=OFFSET) - (
            0 if weights is None else layer.wrapped.adapter(torch.eye(8))
        )
        wanted = linear(torch.eye(8), oracle.dropout(base.weight, P, SEED, OFFSET))
        if weights is None:
            other = oracle.dropout(layer.wrapped.adapter.weight, P, (SEED + 0x9E3779B97F4A7C15) % 2**64, OFFSET)
            wanted = wanted + linear(torch.eye(8), other)
        torch.testing.assert_close(y, wanted)


@pytest.mark.parametrize(
    ("layer", "module", "error", "text"),
    [
        (lambda: DropConnect(nn.Linear(2, 2)), nn.ReLU(), ValueError, "nothing to drop in ReLU"),
        (lambda: DropConnect(nn.Linear(2, 2), 0.5, ["weight"]), nn.Sequential(nn.Linear(2, 2)), ValueError,
         r"weights has to name parameters of the module, \['0.weight', '0.bias'\], but got 'weight'"),
        (lambda: DropConnect(nn.Linear(2, 2)), nn.LazyLinear(2), ValueError, "without a size"),
        (lambda: EmbeddingDropout(nn.Embedding(2, 2)), nn.Linear(2, 2), TypeError, "needs a torch.nn.Embedding"),
    ],
)  # fmt: skip
def test_what_cannot_be_wrapped_is_refused(layer, module, error, text):
    layer = layer()
    before = layer.wrapped
    with pytest.raises(error, match=text):
        layer.wrapped = module
    assert layer.wrapped is before


def test_weights_that_are_gone_are_missed_at_the_call():
    layer = DropConnect(nn.Sequential(nn.Linear(2, 2)))
    layer.wrapped[0] = nn.ReLU()
    assert layer.eval()(torch.ones(2)).equal(torch.ones(2))
    with pytest.raises(ValueError, match="nothing to drop in Sequential"):
        layer.train()(torch.ones(2))
    assert "weights=()" in repr(layer)


def test_an_embeddings_own_size_counts():
    layer = EmbeddingDropout(nn.Embedding(3, 2), P)
    layer.weight = nn.Parameter(torch.ones(50, 2))
    words = torch.tensor([0, 2, 3, 49, 3])
    kept = oracle.keep(torch.ones(50), P, SEED, OFFSET)[:, None]
    wanted = embedding(words, torch.where(kept, layer.weight * oracle.scale(P, torch.float32), 0))
    assert_same_bits(layer(words, seed=SEED, offset=OFFSET), wanted)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_same_bits(compiled(words, seed=SEED, offset=OFFSET), wanted)
    layer.weight = nn.Parameter(torch.ones(4, 2))
    assert_same_bits(layer(words[:3], seed=SEED, offset=OFFSET), wanted[:3])
    normed = EmbeddingDropout(nn.utils.parametrizations.weight_norm(nn.Embedding(5, 2)), 1.0)
    assert normed(WORDS).count_nonzero() == 0


class Named(nn.Module):
    """A module whose members have the names that a wrapper has itself."""

    def __init__(self) -> None:
        super().__init__()
        self.p, self.weights = nn.Parameter(torch.ones(8, 8)), nn.Linear(8, 8)
        self.register_parameter("generator", None)
        self.register_buffer("_names", torch.ones(3))
        self.wrapped, self.key = nn.Linear(8, 8), nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wrapped(self.weights(x @ self.p)) * self.key + self._names.sum()


class NamedEmbedding(nn.Embedding):
    """An embedding with such members."""

    def __init__(self) -> None:
        super().__init__(5, 8)
        self.p, self.generator = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.wrapped = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("make", "plain", "x"),
    [(DropConnect, Named, torch.eye(8)), (EmbeddingDropout, NamedEmbedding, WORDS)], ids=["DropConnect", "Embedding"],
)  # fmt: skip
def test_members_named_like_a_wrappers_own_are_left_alone(make, plain, x):
    module = plain()
    before = {name: vars(module)[name].copy() for name in ("_parameters", "_buffers", "_modules")}
    wanted = module(x)
    layer = make(module, 0.25)
    layer.p, layer.generator = 0.5, torch.Generator().manual_seed(1)
    layer(x).sum().backward()
    assert all(vars(module)[name] == members for name, members in before.items())
    assert (layer.p, layer.wrapped) == (0.5, module)
    names = [name for name, _ in module.named_parameters()]
    assert [name for name, _ in layer.named_parameters()] == names
    assert list(nn.Sequential(layer).state_dict()) == [f"0.{name}" for name in module.state_dict()]
    plain().load_state_dict(layer.state_dict())
    layer.load_state_dict(plain().state_dict())
    layer.load_state_dict({name: value for name, value in layer.state_dict().items()}, assign=True)
    layer.eval()
    assert layer(x).shape == wanted.shape
    values = {name: torch.zeros_like(value) for name, value in module.named_parameters(recurse=False)}
    assert not torch.equal(functional_call(layer, values, (x,)), wanted)
    with pytest.raises(AttributeError, match="wrapped is a child of .* too: set it there"):
        layer.wrapped = plain()
    if make is DropConnect:
        assert layer.weights == ("weights.weight", "wrapped.weight")
        layer.p = 1.0
        assert torch.equal(layer.train()(x), ((module.wrapped.bias * module.key) + 3).expand(8, 8))
