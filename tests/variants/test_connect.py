"""Dropout of weights, side by side with torch's layers whose weights the oracle has masked."""

import copy
import functools
import threading

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of
from torch import nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence

from fastdrop import DropConnect, EmbeddingDropout, mc_dropout
from fastdrop.functional import drop_connect, dropout

P, SEED, OFFSET = 0.3, 2**63 + 11, 5
MODULES = {
    "linear": lambda: (nn.Linear(8, 6), ["weight"]),
    "conv": lambda: (nn.Conv1d(3, 4, 2), ["weight"]),
    "nested": lambda: (nn.Sequential(nn.Conv1d(3, 3, 3, padding=1), nn.Linear(8, 8)), ["0.weight", "1.weight"]),
    "normed": lambda: (nn.Sequential(nn.BatchNorm1d(3), nn.Linear(8, 8)), ["1.weight"]),
    "lstm": lambda: (
        nn.LSTM(8, 4, 2, bidirectional=True, batch_first=True),
        ["weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse"],
    ),
    "gru": lambda: (nn.GRU(8, 4, 2), ["weight_hh_l0", "weight_hh_l1"]),
    "rnn": lambda: (nn.RNN(8, 4, bias=False, nonlinearity="relu"), ["weight_hh_l0"]),
}
EACH = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def tensor_of(result: torch.Tensor | tuple) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


def masked(module: nn.Module, names: list[str], seed: int = SEED, offset: int = OFFSET) -> nn.Module:
    """Return a copy whose weights the oracle has dropped, weight i by the documented seed of its own."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for i, name in enumerate(names):
            weight = module.get_parameter(name)
            weight.copy_(oracle.dropout(weight, P, (seed + i * 0x9E3779B97F4A7C15) % 2**64, offset))
    return module


# The functional


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "weight", "bias"),
    [((5, 8), (6, 8), (6,)), ((2, 3, 8), (6, 8), None), ((8,), (6, 8), (6,)), ((0, 8), (6, 8), None),
     ((4, 0), (6, 0), (6,)), ((5, 8), (8,), None)],
)  # fmt: skip
def test_result_and_gradients(shape, weight, bias, dtype):
    inputs = [numbers(*size, dtype=dtype).requires_grad_() for size in (shape, weight)]
    inputs += [] if bias is None else [numbers(*bias, dtype=dtype).requires_grad_()]
    wanted_inputs = [one.detach().clone().requires_grad_() for one in inputs]
    with torch.no_grad():
        wanted_inputs[1].copy_(oracle.dropout(inputs[1], P, SEED, OFFSET))
    y, wanted = drop_connect(*inputs, p=P, seed=SEED, offset=OFFSET), linear(*wanted_inputs)
    assert_same_bits(y, wanted)
    grads = torch.autograd.grad(y, inputs, torch.ones_like(y))
    x, w, *b = torch.autograd.grad(wanted, wanted_inputs, torch.ones_like(y))
    w = oracle.apply(w, oracle.keep(inputs[1], P, SEED, OFFSET), P)
    for grad, wanted_grad in zip(grads, [x, w, *b], strict=True):
        assert_same_bits(grad, wanted_grad)


@pytest.mark.parametrize("shape, weight, bias", [((2, 3), (4, 5), (4,)), ((2, 3), (4, 3), (5,)), ((), (4,), None)])
def test_errors_of_shapes_are_torchs(shape, weight, bias):
    inputs = torch.ones(shape), torch.ones(weight), bias and torch.ones(bias)
    wanted = error_of(lambda: linear(*inputs))
    assert wanted is not None
    assert error_of(lambda: drop_connect(*inputs, P)) == wanted


@pytest.mark.parametrize(
    "key", [{"p": -0.1}, {"p": "a"}, {"seed": -1}, {"seed": 1.5}, {"offset": 2**64}, {"generator": 1}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_errors_of_the_key_are_dropouts(key, training):
    wanted = error_of(lambda: dropout(torch.ones(4), training=training, **key))
    assert wanted is not None
    assert error_of(lambda: drop_connect(torch.ones(3), torch.ones(2, 3), training=training, **key)) == wanted


def test_eval_mode_and_p_of_0_and_1():
    x, weight, bias = numbers(5, 8), numbers(6, 8), numbers(6)
    assert_same_bits(drop_connect(x, weight, bias, P, False), linear(x, weight, bias))
    assert_same_bits(drop_connect(x, weight, bias, 0), linear(x, weight, bias))
    assert_same_bits(drop_connect(x, weight.fill_(torch.nan), bias, 1), bias.expand(5, 6))


def test_higher_derivatives_and_transforms():
    x, weight, bias = (numbers(*shape, dtype=torch.float64).requires_grad_() for shape in [(3, 4), (2, 4), (2,)])
    connect = functools.partial(drop_connect, p=P, seed=SEED)
    assert torch.autograd.gradcheck(connect, (x, weight, bias), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda *args: connect(*args) ** 2, (x, weight, bias))
    kept = oracle.apply(torch.ones(2, 4, dtype=torch.float64), oracle.keep(weight, P, SEED), P)
    (grad,) = torch.func.vjp(lambda w: connect(x, w), weight)[1](torch.ones(3, 2, dtype=torch.float64))
    torch.testing.assert_close(grad, x.detach().sum(0) * kept)
    rows = torch.vmap(lambda row: drop_connect(row, weight), randomness="different")(torch.ones(64, 4).double())
    assert len(rows.unique(dim=0)) > 30


def test_a_mode_sees_the_member():
    class Seen(torch.overrides.TorchFunctionMode):
        calls: list = []

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.calls.append(function)
            return function(*args, **(kwargs or {}))

    class Tagged(torch.Tensor):
        pass

    with Seen() as mode:
        drop_connect(torch.ones(3).as_subclass(Tagged), torch.ones(2, 3))
    assert drop_connect in mode.calls


# The module


@EACH
def test_module_and_its_gradients_are_those_of_masked_weights(make):
    module, names = make()
    layer, wanted_layer, x = DropConnect(module, P), masked(module, names), numbers(2, 3, 8)
    assert layer.weights == tuple(names)
    y, wanted = tensor_of(layer(x, seed=SEED, offset=OFFSET)), tensor_of(wanted_layer(x))
    assert_same_bits(y, wanted)
    y.square().sum().backward()
    wanted.square().sum().backward()
    for name, parameter in layer.named_parameters():
        grad = wanted_layer.get_parameter(name).grad
        if name in names:
            i = names.index(name)
            kept = oracle.keep(parameter, P, (SEED + i * 0x9E3779B97F4A7C15) % 2**64, OFFSET)
            grad = oracle.apply(grad, kept, P)
            assert grad.count_nonzero() > 0
        assert_same_bits(parameter.grad, grad)


@EACH
@pytest.mark.parametrize(("p", "training"), [(P, False), (0.0, True)])
def test_module_in_eval_mode_and_at_p_0_runs_as_it_is(make, p, training):
    module, _ = make()
    x = numbers(2, 3, 8)
    layer, plain = DropConnect(module, P), copy.deepcopy(module).train(training)
    layer(x)  # with dropped weights, of which nothing is to be left
    layer.p = p
    module.load_state_dict(plain.state_dict())  # a normalization has seen a batch
    assert_same_bits(tensor_of(layer.train(training)(x)), tensor_of(plain(x)))


def test_a_seed_that_is_a_tensor_and_packed_sequences():
    module, names = MODULES["lstm"]()
    layer, wanted = DropConnect(module, P), masked(module, names, seed=7)
    packed = pack_padded_sequence(numbers(2, 3, 8), [3, 2], batch_first=True)
    y = layer(packed, seed=torch.tensor(7), offset=OFFSET)[0].data
    assert_same_bits(y, wanted(packed)[0].data)
    h = numbers(4, 2, 4), numbers(4, 2, 4)
    assert_same_bits(layer(packed, hx=h, seed=7, offset=OFFSET)[0].data, wanted(packed, h)[0].data)


def test_every_step_has_new_masks_and_a_key_repeats_them():
    layer, x = DropConnect(nn.Linear(64, 64, bias=False), 0.5), torch.eye(64)
    results = [layer(x) for _ in range(3)] + [layer(x, seed=1), layer(x, seed=1, offset=1), layer(x, seed=2)]
    kept = torch.stack([y != 0 for y in results]).flatten(1).double()
    correlations = kept.corrcoef() - torch.eye(6)
    assert correlations.abs().max() < 5 / 64  # five standard deviations
    assert torch.equal(layer(x, seed=1), results[3])
    torch.manual_seed(4)
    first = layer(x)
    torch.manual_seed(4)
    assert torch.equal(layer(x), first)
    layer.generator = torch.Generator().manual_seed(4)
    assert torch.equal(layer(x), first)


def test_weights_of_one_module_have_different_masks():
    layer = DropConnect(nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)), 0.5)
    nn.init.ones_(layer.get_parameter("0.weight"))
    nn.init.ones_(layer.get_parameter("1.weight"))
    seen: list[torch.Tensor] = []
    for child in layer.children():
        child.register_forward_hook(lambda module, *_: seen.append(module.weight.flatten()))
    layer(torch.ones(64))
    layer(torch.ones(64), seed=3)
    assert (torch.stack(seen).corrcoef() - torch.eye(4)).abs().max() < 5 / 64


def test_masks_are_fair():
    layer, x = DropConnect(nn.Linear(32, 8), P), numbers(4, 32)
    results = torch.stack([layer(x) for _ in range(4000)]).double()
    standard_error = results.std(0) / 4000**0.5
    assert ((results.mean(0) - layer.wrapped(x)).abs() < 5 * standard_error).all()
    kept = (torch.stack([layer(torch.eye(32)) for _ in range(400)]) != layer.bias).double().mean()
    assert abs(kept - (1 - P)) < 5 * (P * (1 - P) / (400 * 256)) ** 0.5


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU])
def test_training_learns(recurrent):
    # to count the ones of a sequence so far, by recurrent weights that are dropped
    layer, head = DropConnect(recurrent(1, 32, batch_first=True), 0.2), nn.Linear(32, 1)
    x = torch.randint(0, 2, (64, 6, 1)).float()
    optimizer, losses = torch.optim.Adam([*layer.parameters(), *head.parameters()], 0.02), []
    for _ in range(60):
        loss = (head(layer(x)[0]) - x.cumsum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_two_threads_do_not_mix_their_weights():
    layer, x = DropConnect(nn.Linear(256, 256), P), numbers(64, 256)
    before, wanted, wrong = dict(layer.named_parameters()), [layer(x, seed=i) for i in range(4)], []

    def work(i):
        for _ in range(50):
            if not torch.equal(layer(x, seed=i), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(parameter is before[name] for name, parameter in layer.named_parameters())


def test_monte_carlo_dropout_drops_weights_only():
    layer, x = DropConnect(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))).eval(), numbers(4, 8)
    with mc_dropout(layer):
        assert not torch.equal(layer(x), layer(x))
        assert not layer.wrapped.training and not layer.wrapped[1].training
    assert torch.equal(layer(x), layer.wrapped(x))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: DropConnect(nn.Linear(2, 2), 1.5), ValueError, "between 0 and 1, but got 1.5"),
        (lambda: DropConnect(nn.ReLU()), ValueError, r"nothing to drop in ReLU: .*, \[\]"),
        (lambda: DropConnect(nn.Linear(2, 2), weights=[]), ValueError, r"nothing to drop .*'weight', 'bias'"),
        (lambda: DropConnect(nn.Linear(2, 2), weights=["w"]), ValueError, r"\['weight', 'bias'\], but got 'w'"),
        (lambda: DropConnect(nn.Linear(2, 2), weights="weight"), TypeError, "sequence of names .* but got 'weight'"),
        (lambda: DropConnect(nn.Linear(2, 2), weights=3), TypeError, "sequence of names .* but got 3"),
        (lambda: DropConnect(nn.functional.linear), TypeError, "needs a torch.nn.Module .* but got builtin_function"),
        (lambda: DropConnect(torch.jit.script(nn.ReLU())), TypeError, "not scripted, but got RecursiveScriptModule"),
        (lambda: EmbeddingDropout(nn.Embedding(2, 2), -1), ValueError, "between 0 and 1, but got -1"),
        (lambda: EmbeddingDropout(nn.Linear(2, 2)), TypeError, "needs a torch.nn.Embedding, but got Linear"),
    ],
)  # fmt: skip
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_which_weights_are_dropped_and_shown():
    assert DropConnect(nn.MultiheadAttention(8, 2)).weights == ("in_proj_weight", "out_proj.weight")
    assert DropConnect(nn.GRUCell(3, 3)).weights == ("weight_hh",)
    layer = DropConnect(nn.Linear(2, 3), 0.25, ["bias", "bias"])
    assert repr(layer) == "DropConnect(Linear(in_features=2, out_features=3, bias=True), p=0.25, weights=('bias',))"
    nn.init.zeros_(layer.weight)
    nn.init.ones_(layer.bias)
    y = torch.stack([layer(torch.ones(2)) for _ in range(50)])
    assert set(y.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
