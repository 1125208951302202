"""What wraps a module changes no name of its parameters, and follows whatever is done to either of the two."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fastdrop import DropConnect, EmbeddingDropout, replace


class Plain(nn.Module):
    """A model with layers worth wrapping: recurrent, with children, with buffers, tied."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, 2)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8)))
        self.decoder = nn.Linear(8, 20, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.block(self.lstm(self.embedding(words))[0].flatten(0, 1)))


class Wrapped(Plain):
    """The same with its layers wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = EmbeddingDropout(self.embedding, 0.2)
        self.lstm, self.block = DropConnect(self.lstm, 0.2), DropConnect(self.block, 0.2)
        self.decoder = DropConnect(self.decoder, 0.2)


WORDS = torch.arange(12).reshape(4, 3)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)
    torch._dynamo.reset()  # it compiles a forward for few modules only


def seen_by(layer: DropConnect) -> torch.Tensor:
    """Return the weight that a linear layer runs with in training."""
    return layer(torch.eye(8), seed=3).t() - (0 if layer.bias is None else layer.bias[:, None])


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("source", "target"), [(Plain, Wrapped), (Wrapped, Plain), (Wrapped, Wrapped)])
def test_a_state_dict_loads_into_either(source, target, assign):
    source, target = source(), target()
    source(WORDS)  # a normalization has counted
    state = source.state_dict()
    assert list(state) == list(Plain().state_dict())
    assert state._metadata.keys() >= target.state_dict()._metadata.keys()
    target.load_state_dict(copy.deepcopy(state), strict=True, assign=assign)
    assert torch.equal(source.eval()(WORDS), target.eval()(WORDS))
    assert target.state_dict()["block.1.0.num_batches_tracked"] == 1


def test_a_wrapper_by_itself_and_its_errors():
    layer, plain = DropConnect(nn.Linear(8, 8)), nn.Linear(8, 8)
    layer.load_state_dict(plain.state_dict())
    plain.load_state_dict(layer.state_dict())
    model = nn.Sequential(layer)
    with pytest.raises(RuntimeError) as info:
        model.load_state_dict({"0.bias": torch.ones(8), "0.wrapped.weight": torch.ones(8, 8)})
    assert 'Missing key(s) in state_dict: "0.weight"' in str(info.value)
    assert 'Unexpected key(s) in state_dict: "0.wrapped.weight"' in str(info.value)


def test_names_of_parameters_buffers_and_modules():
    plain, wrapped = Plain(), Wrapped()
    for what in ("parameters", "buffers"):
        for duplicates in (False, True):
            names = [
                [name for name, _ in getattr(model, f"named_{what}")(remove_duplicate=not duplicates)]
                for model in (plain, wrapped)
            ]
            assert names[0] == names[1]
    modules = dict(wrapped.named_modules())
    assert modules.keys() - dict(plain.named_modules()).keys() == {
        f"{name}.wrapped" for name in ("embedding", "lstm", "block", "decoder")
    }
    assert len(set(wrapped.modules())) == len(list(wrapped.modules())) == len(modules)
    assert all(wrapped.get_submodule(name) is module for name, module in modules.items())
    assert list(wrapped.lstm.modules()) == [wrapped.lstm, wrapped.lstm.wrapped]


def test_functional_call_by_the_plain_models_names():
    model, other = Wrapped(), Plain()
    before = dict(model.named_parameters())
    values = dict(other.named_parameters()) | dict(other.named_buffers())
    results = functional_call(model.eval(), values, WORDS), other.eval()(WORDS)
    assert torch.equal(*results)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    model.train().block.eval()  # a normalization in training would write to its buffers
    grads = torch.func.grad(lambda values: functional_call(model, values, WORDS).square().sum())(before)
    assert all(grads[name].count_nonzero() > 0 for name in before)


def test_initialization_reaches_what_is_wrapped():
    def fill(module):
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 3.0)

    by_apply, by_modules = DropConnect(nn.Linear(8, 8)), DropConnect(nn.Sequential(nn.Linear(8, 8)))
    nn.Sequential(by_apply).apply(fill)
    for module in nn.Sequential(by_modules).modules():
        fill(module)
    assert (by_apply.weight == 3).all()
    assert (by_modules.get_parameter("0.weight") == 3).all()


def test_dtype_follows():
    model = Wrapped().double()
    assert all(parameter.dtype is torch.float64 for parameter in model.parameters())
    model(WORDS).sum().backward()
    assert model.float()(WORDS).dtype is torch.float32
    assert torch.nn.Sequential(DropConnect(nn.Linear(2, 2))).to("meta")[0].wrapped.weight.is_meta


def test_tied_weights():
    model = Wrapped()
    assert model.decoder.wrapped.weight is model.embedding.wrapped.weight
    layer, other = DropConnect(nn.Linear(8, 8), 0.5), nn.Parameter(torch.full((8, 8), 4.0))
    layer.weight = other  # as tie_weights() of a model does it
    assert layer.wrapped.weight is other
    assert seen_by(layer).max() > 7
    lstm = DropConnect(nn.LSTM(8, 8))
    lstm.weight_hh_l0 = nn.Parameter(torch.zeros(32, 8))
    assert torch.equal(lstm(torch.ones(3, 8))[0], lstm(torch.ones(3, 8))[0])


def test_weights_tied_inside_are_dropped_once():
    block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    block[1].weight = block[0].weight
    layer = DropConnect(block, 0.5)
    assert layer.weights == ("0.weight",)
    assert DropConnect(block, 0.5, ["1.weight"]).weights == ("1.weight",)
    dropped = functional_call(block[0], {"weight": DropConnect(block[0])(torch.eye(8), seed=3).t()}, torch.eye(8)).t()
    torch.testing.assert_close(layer(torch.eye(8), seed=3), (dropped @ dropped).t())


@pytest.mark.parametrize("make", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_stand_by_themselves(make):
    model = Wrapped()
    model(WORDS).sum().backward()  # whatever training leaves behind
    twin = make(model)
    torch.manual_seed(5)
    wanted = model(WORDS)
    torch.manual_seed(5)
    assert torch.equal(twin(WORDS), wanted)
    with torch.no_grad():
        twin.lstm.weight_hh_l0.fill_(0)
        twin.block.wrapped[0].weight.fill_(0)
    assert not torch.equal(twin.eval()(WORDS), model.eval()(WORDS))
    assert twin.lstm.wrapped.weight_hh_l0.count_nonzero() == 0
    assert model.lstm.weight_hh_l0.count_nonzero() > 0
    assert twin.decoder.weight is twin.embedding.weight is not model.decoder.weight


def test_a_saved_model_loads():
    model, file = Wrapped(), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False).eval()(WORDS), model.eval()(WORDS))


def test_training_is_each_ones_own():
    layer = DropConnect(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).eval())
    assert not layer.training
    nn.Sequential(layer).train()
    assert layer.training and layer.wrapped.training and layer.wrapped[1].training
    layer.eval()
    layer.training = True
    assert not layer.wrapped.training and not layer.wrapped[1].training
    x = torch.ones(2, 8)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer(x, seed=1), layer(x, seed=1))


def test_a_wrapped_modules_own_way_to_train_counts():
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Sequential:
            super().train(mode)[1].eval()
            return self

    layer = DropConnect(Frozen(nn.Linear(2, 2), nn.BatchNorm1d(2))).train()
    assert layer.training and layer.wrapped.training and layer.wrapped[0].training and not layer.wrapped[1].training


def test_a_wrapped_modules_own_way_to_be_saved_loaded_and_moved_counts():
    class Own(nn.Linear):
        _version, loaded, table = 3, None, torch.ones(2)

        def get_extra_state(self) -> str:
            return "state"

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            self.loaded = metadata["version"], state.pop(prefix + "_extra_state")
            super()._load_from_state_dict(state, prefix, metadata, True, [], [], [])

        def _apply(self, fn, recurse=True):
            self.table = fn(self.table)
            return super()._apply(fn, recurse)

    model = nn.Sequential(DropConnect(Own(2, 2))).double()
    model[0].register_buffer("passing", torch.ones(1), persistent=False)
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "0._extra_state"]
    model.load_state_dict(state)
    assert model[0].wrapped.loaded == (3, "state")
    assert model[0].wrapped.table.dtype is torch.float64
    assert "passing" in dict(model[0].wrapped.named_buffers())


def test_hooks_run_and_see_dropped_weights():
    layer, seen = DropConnect(nn.Linear(8, 8), 0.5), []
    layer.wrapped.register_forward_pre_hook(lambda module, _: seen.append(module.weight))
    layer.wrapped.register_forward_hook(lambda module, args, y: y + 100)
    assert (layer(torch.zeros(8)) > 50).all()
    layer.eval()(torch.zeros(8))
    assert (seen[0] == 0).any() and seen[1] is layer.weight


def test_weights_come_back_after_an_exception():
    layer = DropConnect(nn.LSTM(8, 8))
    before = layer.weight_hh_l0
    with pytest.raises(RuntimeError, match="must be equal to input_size"):
        layer(torch.ones(3, 9))
    assert layer.weight_hh_l0 is layer.wrapped.weight_hh_l0 is before


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints_have_the_same_masks(use_reentrant):
    x, results = torch.randn(4, 3, 8), []
    layer = DropConnect(nn.GRU(8, 8), 0.5)
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=use_reentrant)):
        torch.manual_seed(3)
        inputs = x.clone().requires_grad_()
        y = run(inputs)[0]
        y.square().sum().backward()
        results.append([y, inputs.grad])
    assert all(torch.equal(*both) for both in zip(*results, strict=True))


@pytest.mark.parametrize(
    "module", [nn.Linear(8, 8), nn.Conv1d(3, 3, 2), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))]
)
@pytest.mark.sampled(2)
def test_compiles_in_one_graph(module):
    layer, x = DropConnect(module, 0.5), torch.randn(2, 3, 8)
    before = layer.state_dict(keep_vars=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    y, wanted = compiled(x, seed=9, offset=4), layer(x, seed=9, offset=4)
    assert torch.equal(y, wanted)
    parameters = list(layer.parameters())
    assert all(
        map(torch.equal, torch.autograd.grad(y.sum(), parameters), torch.autograd.grad(wanted.sum(), parameters))
    )
    assert not torch.equal(compiled(x), compiled(x))
    assert all(value is before[name] for name, value in layer.state_dict(keep_vars=True).items())
    assert torch.equal(torch.compile(layer.eval(), backend="aot_eager", fullgraph=True)(x), module(x))


def test_compiled_models_with_recurrent_layers():
    layer, x = nn.Sequential(DropConnect(nn.LSTM(8, 8), 0.5)), torch.randn(4, 3, 8)
    torch.manual_seed(3)
    wanted = layer(x)[0]
    torch.manual_seed(3)
    assert torch.equal(torch.compile(layer, backend="aot_eager")(x)[0], wanted)


def test_replace_finds_what_is_inside():
    model = nn.Sequential(
        DropConnect(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1))), DropConnect(nn.LSTM(8, 8, 2, dropout=0.1))
    )
    report = replace(model)
    assert report.swapped == ["0.1"]
    assert report.left == {"1.wrapped": nn.LSTM}
