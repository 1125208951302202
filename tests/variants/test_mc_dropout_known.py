"""mc_dropout and mc_predict: whose p counts, classes of libraries that are not installed, samples that are equal."""

import pytest
import torch
from torch import nn

import fastdrop
from fastdrop import mc_dropout, mc_predict

X = torch.ones(64, 4)
IMAGE = torch.ones(2, 3, 8, 8)
NOTHING = "model has to have a module that drops elements with p > 0, .* p = 0 only"


def class_of(name: str, attribute: str) -> type[nn.Module]:
    """Return a class of this name that drops rows by this attribute, as timm's and torchvision's do."""

    def __init__(self: nn.Module, amount: float) -> None:
        super(kind, self).__init__()
        setattr(self, attribute, amount)

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        amount = getattr(self, attribute)
        if amount == 0 or not self.training:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - amount)
        return x * kept / (1 - amount)

    kind = type(name, (nn.Module,), {"__init__": __init__, "forward": forward})
    return kind


FOREIGN = [
    class_of(name, attribute)
    for name, attribute in [
        ("DropPath", "drop_prob"),  # timm.layers
        ("DropBlock2d", "drop_prob"),
        ("PatchDropout", "prob"),
        ("PatchDropoutWithIndices", "prob"),
        ("StochasticDepth", "p"),  # torchvision.ops
        ("DropBlock2d", "p"),
        ("DropBlock3d", "p"),
        ("SwinDropPath", "drop_prob"),  # transformers
    ]
]


class OwnCode(nn.Module):
    """Calls functional dropout, beside a module that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


OFF = {
    **{kind.__name__: kind(0.0) for kind in (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)},
    "a tensor": nn.Dropout(torch.tensor(0.0)),
    "an int": nn.Dropout(0),
    "fastdrop.Dropout": fastdrop.Dropout(0.0),
    "GaussianDropout": fastdrop.GaussianDropout(0.0),
    "GaussianNoise": fastdrop.GaussianNoise(0.0),
    "DropPath": fastdrop.DropPath(),
    "StochasticDepth": fastdrop.StochasticDepth(0.0, "row"),
    "SpatialDropout1D": fastdrop.SpatialDropout1D(0.0),
    "DropBlock2d": fastdrop.DropBlock2d(0.0, 3),
    "VariationalDropout": fastdrop.VariationalDropout(0.0),
    "WordDropout": fastdrop.WordDropout(0.0, 0),
    "DropConnect": fastdrop.DropConnect(nn.Linear(4, 4), 0.0),
    "EmbeddingDropout": fastdrop.EmbeddingDropout(nn.Embedding(4, 4), 0.0),
    "recurrent": nn.LSTM(4, 4, 2, dropout=0.0),
    "attention": nn.MultiheadAttention(4, 2, dropout=0.0),
    **{f"foreign {kind.__name__} {i}": kind(0.0) for i, kind in enumerate(FOREIGN)},
}


@pytest.mark.parametrize("name", OFF)
def test_what_drops_with_p_0_does_not_count(name):
    model = nn.Sequential(OFF[name], nn.Dropout(0.0)).eval()
    with pytest.raises(ValueError, match=NOTHING), mc_dropout(model):
        pass
    with pytest.raises(ValueError, match=NOTHING):
        mc_predict(model, X)
    assert not any(module.training for module in model.modules())


def test_a_recurrent_layer_of_one_layer_drops_nothing():
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        layer = nn.GRU(4, 4, dropout=0.5)
    with pytest.raises(ValueError, match="drops elements"), mc_dropout(layer):
        pass


def test_p_counts_as_it_is_at_the_call():
    dropout, path = fastdrop.Dropout(0.0), fastdrop.DropPath(0.5)
    model = nn.Sequential(dropout, path).eval()
    assert mc_predict(model, X, seed=0).std.any()
    path.drop_prob = 0.0
    with pytest.raises(ValueError, match=NOTHING):
        mc_predict(model, X)
    dropout.p = 0.5
    assert mc_predict(model, X, seed=0).std.all()


def test_p_of_scripted_and_compiled_modules():
    for wrap in (torch.jit.script, lambda module: torch.compile(module, backend="eager")):
        with pytest.raises(ValueError, match=NOTHING), mc_dropout(wrap(nn.Sequential(nn.Dropout(0.0)))):
            pass
        with mc_dropout(model := wrap(nn.Sequential(nn.Dropout(0.5)))):
            assert [module.training for module in model.modules()][-1]


def test_what_is_named_counts_whatever_its_p():
    model = nn.Sequential(nn.Dropout(0.0)).eval()
    with mc_dropout(model, modules=(nn.Dropout,)):
        assert model[0].training


@pytest.mark.parametrize("kind", FOREIGN)
def test_classes_of_other_libraries(kind):
    subclass = type("Own", (kind,), {})
    for made in (kind(0.5), subclass(0.5)):
        model = nn.Sequential(nn.BatchNorm2d(3), made, nn.Dropout(0.0)).eval()
        prediction = mc_predict(model, IMAGE, 200, seed=0)
        assert prediction.std.all()
        assert abs(float(prediction.mean.mean()) - 1) < 0.3  # five standard errors of 400 rows
        assert not any(module.training for module in model.modules())


def test_names_alone_are_not_enough():
    class DropPath(nn.Module):  # without a probability: a block of a residual network, say
        pass

    with pytest.raises(ValueError, match="drops elements"), mc_dropout(DropPath()):
        pass


@pytest.mark.parametrize("order", [0, 1])
def test_a_module_that_is_there_by_itself_and_compiled(order):
    dropout = nn.Dropout(0.5)
    model = nn.Sequential(*[dropout, torch.compile(dropout, backend="eager")][:: 1 - 2 * order]).eval()
    with mc_dropout(model):
        assert dropout.training
    assert not dropout.training
    with mc_dropout(nn.Sequential(compiled := torch.compile(OwnCode(), backend="eager")), modules=(compiled,)):
        assert compiled.training


# Samples that are equal


@pytest.mark.parametrize("batch_samples", [1, 7])
def test_equal_samples_are_warned_of(batch_samples):
    x = torch.rand(64, 4)
    with pytest.warns(UserWarning, match="all 20 samples are equal, so nothing dropped .* modules=") as caught:
        prediction = mc_predict(OwnCode(), x, 20, batch_samples)
    assert caught[0].filename == __file__
    torch.testing.assert_close(prediction.mean, x)
    assert mc_predict(OwnCode(), x, 20, batch_samples, modules=(OwnCode,)).std.any()


def test_where_there_is_no_word_to_say():
    model = nn.Sequential(nn.Dropout(1e-4))
    assert mc_predict(OwnCode(), X, 1).std.isnan().all()  # one sample says nothing
    assert mc_predict(model, torch.ones(10_000, 1), 2, seed=0).std.any()  # an element in a thousand, and no warning
    mc_predict(nn.Sequential(nn.Dropout(0.5)), torch.full((4, 4), torch.nan), 2)  # no number equals a NaN
