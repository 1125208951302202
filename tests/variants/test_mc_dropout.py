"""mc_dropout: which modules are in training inside, and that all are as they were after."""

import copy

import pytest
import torch
from replaced_net import layers_with_dropout_inside
from torch import nn

import fastdrop
from fastdrop import mc_dropout

DROPOUTS = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout]


class Marked(nn.Module):
    """As fastdrop's own modules are that derive from no dropout of torch's."""

    drops_in_training = True


class Functional(nn.Module):
    """Drops in its own code, where nobody sees it, and has a BatchNorm inside."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.norm(x), 0.5, self.training)


class Net(nn.Module):
    """Nested, with one dropout under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        self.outer = nn.Sequential(self.block, nn.ModuleDict({"same": self.block[2], "marked": Marked()}))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer[1]["same"](self.block(x))


def flags(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules(remove_duplicate=False)}


def in_training(model: nn.Module, **kwargs) -> set[str]:
    """Return the names of the modules that are in training inside."""
    with mc_dropout(model, **kwargs):
        return {name for name, training in flags(model).items() if training}


def varies(model: nn.Module, x: torch.Tensor, **kwargs) -> bool:
    """Whether two passes differ: as users run them, without gradients."""
    with mc_dropout(model, **kwargs), torch.no_grad():
        return not torch.equal(model(x), model(x))


@pytest.mark.parametrize("mode", [True, False])
def test_only_what_drops_is_in_training(mode):
    assert in_training(Net().train(mode)) == {"block.2", "outer.0.2", "outer.1.same", "outer.1.marked"}


@pytest.mark.parametrize("kind", [*DROPOUTS, fastdrop.Dropout, Marked])
def test_classes_that_drop(kind):
    subclass = type("Subclass", (kind,), {})
    assert in_training(nn.ModuleList([kind(), subclass(), nn.RReLU()])) == {"0", "1"}


def test_replaced_models():
    model = Net()
    fastdrop.replace(model)
    assert "block.2" in in_training(model)


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_layers_with_dropout_inside(p):
    layers = layers_with_dropout_inside(p)
    model = nn.ModuleDict({**layers, "dropout": nn.Dropout()})
    assert in_training(model) == {"dropout", *(layers if p else ())}


def test_attention_with_a_dropout_module():
    attention = nn.MultiheadAttention(8, 2)
    attention.dropout = nn.Dropout(0.1)
    assert in_training(attention) == {"dropout"}


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformers_vary_as_in_training_and_not_as_in_their_fused_path(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        still = encoder(x)
        trained = copy.deepcopy(encoder).train()  # it has nothing but dropout that differs
        torch.manual_seed(0)
        wanted = trained(x)
    assert varies(encoder, x)
    with mc_dropout(encoder), torch.no_grad():
        torch.manual_seed(0)
        assert torch.equal(encoder(x), wanted)
    with torch.no_grad():
        assert torch.equal(encoder(x), still)


def test_transformers_with_padding_keep_off_nested_tensors():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x, padding = torch.randn(3, 5, 8), torch.arange(5).repeat(3, 1) > 3
    with mc_dropout(encoder), torch.no_grad():
        first, second = (encoder(x, src_key_padding_mask=padding) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_transformer_layer_without_dropouts_drops_nothing():
    layer = nn.TransformerEncoderLayer(8, 2, dropout=0.0)
    layer.dropout = layer.dropout1 = layer.dropout2 = nn.Identity()
    with pytest.raises(ValueError, match="has to have a module that drops"), mc_dropout(layer):
        pass


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers_vary(kind):
    layer = kind(4, 4, 2, dropout=0.5, batch_first=True).eval()
    with mc_dropout(layer), torch.no_grad():
        first, second = (layer(torch.ones(2, 3, 4))[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_batch_norm_stays_in_eval():
    model, x = Net(), torch.randn(8, 16)
    norm = model.block[1]
    norm(torch.randn(8, 16) * 3 + 1)
    before = copy.deepcopy(norm.state_dict())
    with mc_dropout(model):
        seen = []
        norm.register_forward_hook(lambda module, args, y: seen.append((args[0], y)))
        model(x)
    (given, got) = seen[0]
    scale = (before["running_var"] + norm.eps).sqrt()
    torch.testing.assert_close(got, (given - before["running_mean"]) / scale)
    assert all(torch.equal(norm.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("mode", [True, False])
def test_all_flags_come_back(mode):
    model = Net().train(mode)
    model.block[1].training = not mode  # as with a frozen BatchNorm
    before = flags(model)
    with mc_dropout(model):
        assert flags(model) != before
    assert flags(model) == before
    with pytest.raises(KeyError), mc_dropout(model):
        raise KeyError
    assert flags(model) == before


def test_flags_come_back_when_one_cannot_be_set():
    class Stubborn(nn.Module):
        def __setattr__(self, name, value):
            if name == "training" and "training" in vars(self):
                raise RuntimeError("no")
            super().__setattr__(name, value)

    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), Stubborn())
    with pytest.raises(RuntimeError, match="no"), mc_dropout(model):
        pass
    assert model[0].training


def test_blocks_nest():
    model = Net()
    with mc_dropout(model):
        inside = flags(model)
        with mc_dropout(model, modules=(nn.BatchNorm1d,)):
            assert model.block[1].training
        assert flags(model) == inside
    assert all(flags(model).values())


def test_train_and_eval_are_not_called(monkeypatch):
    model = Net()
    monkeypatch.setattr(nn.Module, "train", None)
    assert in_training(model)


def test_modules_by_class_and_by_object():
    x, twice = torch.randn(4, 16), nn.Sequential(Functional(), Functional()).eval()
    assert in_training(twice, modules=(Functional,)) == {"0", "1"}
    assert in_training(twice, modules=[twice[1]]) == {"1"}
    assert varies(twice, x, modules=(Functional,))
    assert not varies(nn.Sequential(Functional(), nn.Dropout(1.0)), x)  # as the docstring says: cannot be seen


def test_scripted_models():
    model = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.5), nn.LSTM(16, 16, 2, dropout=0.5), nn.LSTM(16, 16))
    scripted = torch.jit.script(model[:2]).eval()
    assert in_training(scripted) == {"1"}
    assert varies(scripted, torch.ones(4, 16))
    assert in_training(nn.ModuleList([torch.jit.script(model[2]), torch.jit.script(model[3])])) == {"0"}
    encoder = torch.jit.script(nn.TransformerEncoderLayer(8, 2, batch_first=True)).eval()
    assert varies(encoder, torch.randn(3, 5, 8))


def test_frozen_scripts_have_no_flag():
    frozen = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))).eval())
    dropout = nn.Dropout(0.5)
    with mc_dropout(nn.Sequential(frozen, dropout.eval())):
        assert dropout.training
        assert not hasattr(frozen, "training")


def test_compiled_models():
    compiled = torch.compile(nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.5)), backend="eager").eval()
    x = torch.ones(4, 16)
    still = compiled(x)
    assert varies(compiled, x)
    assert torch.equal(compiled(x), still)


def test_compiled_modules_inside():
    compiled = torch.compile(nn.Dropout(0.5), backend="eager").eval()  # whose flag is that of the module it wraps
    assert in_training(compiled) == {"", "_orig_mod"}


@pytest.mark.parametrize("model", [None, nn.Dropout, lambda x: x])
def test_what_is_no_module(model):
    with pytest.raises(TypeError, match=r"model has to be a torch.nn.Module, but got"), mc_dropout(model):
        pass


@pytest.mark.parametrize("modules", [nn.Dropout, "Dropout", nn.Sequential(nn.Dropout()), (int,), [nn.Dropout, 3], None])
def test_what_names_no_modules(modules):
    model = Net()
    with (
        pytest.raises(TypeError, match="modules has to be a tuple or list of modules"),
        mc_dropout(model, modules=modules),
    ):
        pass
    assert all(flags(model).values())


@pytest.mark.parametrize("entry", [nn.Conv2d, nn.Dropout()])
def test_named_modules_have_to_be_there(entry):
    with (
        pytest.raises(ValueError, match="modules has to name what is in the model"),
        mc_dropout(Net(), modules=(entry,)),
    ):
        pass


def test_a_model_without_dropout():
    model = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))
    with pytest.raises(ValueError, match="model has to have a module that drops elements"), mc_dropout(model):
        pass
    assert all(flags(model).values())
