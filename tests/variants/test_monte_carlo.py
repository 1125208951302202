"""mc_predict: its figures against NumPy's on samples collected by hand, what it takes, its memory, its errors."""

import math
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from fastdrop import mc_predict


class Returns(nn.Module):
    """Return what a function makes of the arguments, after a dropout."""

    def __init__(self, function, p: float = 0.5) -> None:
        super().__init__()
        self.function, self.dropout = function, nn.Dropout(p)

    def forward(self, *args, **kwargs):
        return self.function(self.dropout, *args, **kwargs)


class Functional(nn.Module):
    """Drops in its own code."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


def network(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs))


def by_hand(model: nn.Sequential, x: torch.Tensor, passes: list[int]) -> np.ndarray:
    """Return the samples of passes with so many samples each, with nothing of fastdrop."""
    model.eval()
    model[3].train()
    with torch.no_grad():
        outputs = [model(x.repeat(count, 1)).reshape(count, len(x), -1) for count in passes]
    return torch.cat(outputs).numpy()


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def close(actual: torch.Tensor, wanted: np.ndarray, dtype: torch.dtype = torch.float32) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(np.asarray(wanted), dtype=dtype), rtol=1e-4, atol=1e-6)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


# Figures


@pytest.mark.parametrize(
    ("batch_samples", "passes"), [(None, [1] * 8), (1, [1] * 8), (3, [3, 3, 2]), (8, [8]), (50, [8])]
)
def test_mean_std_and_samples(x, batch_samples, passes):
    model = network()
    torch.manual_seed(5)
    wanted = by_hand(model, x, passes)
    torch.manual_seed(5)
    prediction = mc_predict(model, x, 8, batch_samples, keep_samples=True)
    close(prediction.samples, wanted)
    close(prediction.mean, wanted.mean(0))
    close(prediction.std, wanted.std(0, ddof=1))
    assert prediction.entropy is prediction.mutual_information is None
    assert mc_predict(model, x, 8).samples is None


@pytest.mark.parametrize("batch_samples", [1, 3])
def test_entropy_and_mutual_information(x, batch_samples):
    model = network()
    prediction = mc_predict(model, x, 8, batch_samples, seed=3, class_dim=1, keep_samples=True)
    logits = mc_predict(model, x, 8, batch_samples, seed=3, keep_samples=True).samples.double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    close(prediction.samples, p)
    close(prediction.mean, p.mean(0))
    close(prediction.std, p.std(0, ddof=1))
    close(prediction.entropy, entropy(p.mean(0)))
    close(prediction.mutual_information, entropy(p.mean(0)) - entropy(p).mean(0))


@pytest.mark.parametrize("class_dim", [1, -3])
def test_classes_of_pixels(class_dim):
    image, model = torch.randn(2, 3, 4, 5), Returns(lambda dropout, x: dropout(x))
    prediction = mc_predict(model, image, 6, 4, seed=0, class_dim=class_dim, keep_samples=True)
    p = np.moveaxis(prediction.samples.double().numpy(), 2, -1)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    close(prediction.entropy, entropy(p.mean(0)))
    close(prediction.mutual_information, entropy(p.mean(0)) - entropy(p).mean(0))


def test_entropies_known_in_closed_form():
    """Two sure samples that contradict each other: ln 2, all of it the model's; an undecided one: none of it."""
    flips = iter([1.0, -1.0] * 2)

    def logits(dropout, x):
        sign = next(flips)
        return torch.tensor([[sign * 1e4, 0.0, -math.inf], [3.0, 3.0, -math.inf]])

    prediction = mc_predict(Returns(logits), torch.ones(2, 1), 4, class_dim=1)
    close(prediction.entropy, np.log([2, 2]))
    close(prediction.mutual_information, np.log([2, 1]))


def test_without_dropout_there_is_no_spread(x):
    model = network(50)
    model[3].p = 0.0
    with pytest.warns(UserWarning, match="all 7 samples are equal"):
        prediction = mc_predict(model, x, 7, class_dim=1, modules=(nn.Dropout,))
    assert not prediction.std.any()
    assert torch.equal(prediction.mean, model.eval()(x).softmax(1))
    model[3].p = 1e-9  # for this model nothing at all, but in torch's eyes something
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # samples of one pass are equal, or not in the last bit
        rounded = mc_predict(model, torch.randn(1000, 4), 7, 7, class_dim=1).mutual_information
    assert bool(((rounded >= 0) & (rounded < 1e-5)).all())


def test_variance_of_a_linear_model_is_the_one_known():
    torch.manual_seed(0)
    p, samples = 0.3, 4000
    x, w = torch.rand(3, 50) + 0.5, torch.rand(50) + 0.5
    prediction = mc_predict(Returns(lambda dropout, x: dropout(x) @ w, p), x, samples, 500, seed=11)
    variance = p / (1 - p) * (w * x).square().sum(1)
    five_errors = 5 * math.sqrt(2 / samples)  # of a variance, relative, of what is almost normal
    torch.testing.assert_close(prediction.std.square(), variance, rtol=five_errors, atol=0)
    assert bool(((prediction.mean - x @ w).abs() < 5 * (variance / samples).sqrt()).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(x, dtype):
    model = network().to(dtype)
    prediction = mc_predict(model, x.to(dtype), 50, seed=0, keep_samples=True)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert {prediction.mean.dtype, prediction.std.dtype, prediction.samples.dtype} == {wanted}
    close(prediction.mean, prediction.samples.double().numpy().mean(0), wanted)
    close(prediction.std, prediction.samples.double().numpy().std(0, ddof=1), wanted)


@pytest.mark.parametrize("batch_samples", [1, 7])
def test_a_small_spread_about_a_large_mean(batch_samples):
    model = Returns(lambda dropout, x: 1e4 + dropout(x))
    prediction = mc_predict(model, torch.ones(3, 4), 100, batch_samples, keep_samples=True)
    torch.testing.assert_close(prediction.std.double(), prediction.samples.double().std(0), rtol=1e-3, atol=0)


def test_one_sample_has_the_std_that_torch_gives_it(x):
    assert bool(mc_predict(network(), x, 1).std.isnan().all())


# What goes in and through


def test_transformers_and_recurrent_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    encoder, lstm = nn.TransformerEncoder(layer, 2), nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True)
    last = Returns(lambda dropout, x: lstm(x)[0], 0.0)
    last.lstm = lstm
    for model in (encoder.eval(), last.eval()):
        assert bool((mc_predict(model, torch.randn(2, 3, 8), 5).std > 0).all())


@pytest.mark.parametrize("inputs", [lambda x: (x, x + 1), lambda x: {"b": x + 1, "a": x}])
def test_several_arguments(x, inputs):
    seen = []

    def add(dropout, a, b):
        seen.append((a, b))
        return dropout(a) + b

    mc_predict(Returns(add), inputs(x), 5, 3)
    assert [len(a) for a, b in seen] == [15, 10]
    for a, b in seen:
        assert torch.equal(a, torch.cat([x] * (len(a) // 5)))
        assert torch.equal(b, a + 1)


def test_arguments_that_are_no_tensors():
    model = Returns(lambda dropout, x, power, mask: dropout(x) ** power)
    prediction = mc_predict(model, (torch.full((2, 2), 3.0), 2, None), 4, 2, keep_samples=True)
    assert set(prediction.samples.unique().tolist()) <= {0.0, 36.0}


@pytest.mark.parametrize("batch_samples", [1, 2])
def test_a_dropout_in_place_drops_nothing_of_the_caller(batch_samples):
    model, x = nn.Sequential(nn.Dropout(0.5, inplace=True)), torch.ones(100)
    prediction = mc_predict(model, x, 20, batch_samples, seed=0)
    assert torch.equal(x, torch.ones(100))
    assert abs(float(prediction.mean.mean()) - 1) < 5 / math.sqrt(2000)


def test_modules_are_handed_on(x):
    assert bool(mc_predict(Functional(), x, modules=(Functional,)).std.any())


def test_gradients_are_not_recorded_and_results_can_be_trained_on(x):
    prediction = mc_predict(network(), x.requires_grad_(), 2)
    assert not prediction.mean.requires_grad
    weight = torch.ones(3, requires_grad=True)
    (prediction.mean * weight).sum().backward()  # an inference tensor could not be saved for this
    assert torch.is_grad_enabled()


def test_samples_are_kept_where_the_model_writes_over_its_output():
    memory = torch.empty(4)
    model = Returns(lambda dropout, x: memory.copy_(dropout(x)))
    prediction = mc_predict(model, torch.ones(4), 20, seed=0, keep_samples=True)
    assert len(prediction.samples.unique(dim=0)) > 1


def test_memory_does_not_grow_with_the_samples(x):
    alive: list[int] = []
    outputs: list[weakref.ref[torch.Tensor]] = []

    def counted(dropout, x):
        alive.append(sum(output() is not None for output in outputs))
        outputs.append(weakref.ref(y := dropout(x)))
        return y

    mc_predict(Returns(counted), x, 30)
    assert max(alive) <= 1


# The bar


def test_a_bar_on_stderr(x, capsys):
    mc_predict(network(), x, 3, 2, progress=True)
    captured = capsys.readouterr()
    assert "100%" in captured.err
    assert not captured.out
    mc_predict(network(), x, 3)
    assert not capsys.readouterr().err


def test_a_bar_needs_rich(x, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ModuleNotFoundError, match="progress=True needs rich: pip install rich"):
        mc_predict(network(), x, progress=True)
    mc_predict(network(), x, 1)


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"samples": 0}, ValueError, "samples has to be at least 1, but got 0"),
        ({"samples": 2.0}, TypeError, "samples has to be an integer, but got float: 2.0"),
        ({"batch_samples": 0}, ValueError, "batch_samples has to be at least 1, but got 0"),
        ({"class_dim": "1"}, TypeError, "class_dim has to be an integer, but got str: '1'"),
        ({"seed": -1}, ValueError, r"seed has to be between 0 and 2\*\*64 - 1, but got -1"),
        ({"seed": 0.5}, TypeError, "seed has to be an integer"),
        ({"model": "model"}, TypeError, "model has to be a torch.nn.Module, but got str"),
        ({"model": nn.Linear(4, 3)}, ValueError, "model has to have a module that drops elements"),
        ({"x": torch.ones(0, 4)}, ValueError, r"x has to have the same first dimension .* but got \(0, 4\)"),
        ({"x": torch.tensor(1.0)}, ValueError, r"x has to have the same first dimension .* but got \(\)"),
        ({"x": (torch.ones(2), torch.ones(3, 4))}, ValueError, r"but got \(2,\), \(3, 4\)"),
        ({"x": [torch.ones(2)]}, TypeError, "x has to be a tensor, or a tuple or mapping with tensors, but got none"),
        ({"x": {}}, TypeError, "x has to be a tensor, or a tuple or mapping with tensors, but got none"),
    ],
)
def test_bad_arguments(x, arguments, error, text):
    model, calls = network(), []
    model.register_forward_pre_hook(lambda module, args: calls.append(args))
    with pytest.raises(error, match=text):
        mc_predict(**{"model": model, "x": x, **arguments})
    assert not calls
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda dropout, x: (x, x), TypeError, "floating-point tensor, but got tuple: wrap it in a module that does"),
        (lambda dropout, x: x.argmax(1), TypeError, "model has to return a floating-point tensor, but got torch.int64"),
        (lambda dropout, x: x.mean(), ValueError, r"model has to return the batch first, 10 long, but got shape \(\)"),
        (lambda dropout, x: x.T, ValueError, r"model has to return the batch first, 10 long, but got shape \(4, 10\)"),
    ],
)
def test_bad_outputs(x, function, error, text):
    with pytest.raises(error, match=text):
        mc_predict(Returns(function), x, batch_samples=2)


@pytest.mark.parametrize(("outputs", "class_dim"), [(3, 0), (3, -2), (3, 2), (3, -3), (1, 1)])
def test_bad_class_dims(x, outputs, class_dim):
    shape = rf"\(5, {outputs}\)"
    with pytest.raises(ValueError, match=f"class_dim has to be .* but got {class_dim} for an output of shape {shape}"):
        mc_predict(network(outputs), x, class_dim=class_dim)
