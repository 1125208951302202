"""replace and restore: which modules of a model become ours, what of them stays, and that they come back."""

import copy
import functools
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import distributed, nn

import fastdrop
from fastdrop._replace import REPLACEMENTS, Report, replace, restore

INFINITIES = torch.full((64,), float("inf"))
IGNORE_JIT = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")


class Subclass(nn.Dropout):
    """Of a library, say."""


class ChannelSubclass(nn.Dropout2d):
    """Of a library too."""


class OwnSubclass(fastdrop.Dropout):
    """Of a user."""


class Net(nn.Module):
    """Two dropouts, one of them used twice and under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.25))
        self.drop = nn.Dropout(0.5)
        self.same = self.drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(self.drop(self.inner(x)).relu())


def net_by_functions(model: Net, x: torch.Tensor, dropout: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Compute what Net computes, without its dropout modules."""
    y = dropout(model.inner[0](x), 0.25)
    return dropout(dropout(y, 0.5).relu(), 0.5)


def seeded(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    torch.manual_seed(12345)
    return function(*args, **kwargs)


def drops_as_ours(function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether a dropped infinity is 0, as with ours, or NaN, as with native, which multiplies."""
    y = function(INFINITIES)
    ours, native = bool((y == 0).any()), bool(y.isnan().any())
    assert ours != native
    return ours


def types(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(1))


# What a swapped model computes


def test_a_replaced_model_computes_what_our_function_does(x):
    model = Net()
    native = seeded(model, x)
    replace(model)
    assert torch.equal(seeded(model, x), seeded(net_by_functions, model, x, fastdrop.functional.dropout))
    assert not torch.equal(seeded(model, x), native)


def test_gradients_too(x):
    model, inputs = Net(), x.clone().requires_grad_()
    replace(model)
    (gradient,) = torch.autograd.grad(seeded(model, inputs).sum(), inputs)
    wanted = seeded(net_by_functions, model, inputs, fastdrop.functional.dropout)
    assert torch.equal(gradient, torch.autograd.grad(wanted.sum(), inputs)[0])


def test_restore_gives_native_masks_bit_for_bit(x):
    model = Net()
    before, attributes = seeded(model, x), set(vars(model.drop))
    replace(model)
    model(x)
    restore(model)
    assert torch.equal(seeded(model, x), before)
    assert torch.equal(seeded(net_by_functions, model, x, nn.functional.dropout), before)
    assert type(model.drop) is type(model.inner[1]) is nn.Dropout
    assert set(vars(model.drop)) == attributes


def test_what_ours_has_more_works_on_a_swapped_module():
    layer, x = nn.Dropout(0.5), torch.ones(100)
    replace(layer)
    wanted = fastdrop.functional.dropout(x, 0.5, seed=3, offset=4)
    assert torch.equal(layer(x, seed=3, offset=4), wanted)
    layer.generator = torch.Generator().manual_seed(5)
    wanted = fastdrop.functional.dropout(x, 0.5, generator=torch.Generator().manual_seed(5))
    assert torch.equal(layer(x), wanted)


@pytest.mark.parametrize(("native", "ours"), REPLACEMENTS.items())
def test_a_swapped_module_lacks_nothing_that_a_built_one_has(native, ours):
    swapped = native()
    replace(swapped)
    assert type(swapped) is ours
    assert issubclass(ours, native)
    for name in vars(ours()):
        assert hasattr(swapped, name), name


def test_every_class_of_torchs_is_swapped():
    assert {native.__name__ for native in REPLACEMENTS} == set(nn.modules.dropout.__all__)
    assert all(native.__module__ == nn.Dropout.__module__ for native in REPLACEMENTS)
    assert all(ours is getattr(fastdrop, native.__name__) for native, ours in REPLACEMENTS.items())


@pytest.mark.parametrize(("native", "ours"), REPLACEMENTS.items())
def test_every_class_computes_what_ours_does_and_then_what_it_did(native, ours):
    layer, x = native(0.3), torch.randn((40, 50, 2, 2, 2)[: {"1d": 3, "3d": 5}.get(native.__name__[-2:], 4)])
    before = seeded(layer, x)
    assert replace(nn.ModuleList([layer])) == (["0"], {})
    y = seeded(layer, x)
    assert torch.equal(y, seeded(ours(0.3), x)) and not torch.equal(y, before)
    assert restore(layer) == ([""], {})
    assert torch.equal(seeded(layer, x), before)


# What stays


def test_the_same_objects_stay():
    model = Net()
    modules, names = list(model.modules()), [name for name, _ in model.named_modules(remove_duplicate=False)]
    replace(model)
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert [name for name, _ in model.named_modules(remove_duplicate=False)] == names
    assert model.same is model.drop


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_attributes_stay(training, inplace):
    layer = nn.Dropout(0.3, inplace).train(training)
    layer.note = "of a user"
    for swap in (replace, restore):
        swap(layer)
        assert (layer.p, layer.inplace, layer.training, layer.note) == (0.3, inplace, training, "of a user")
        assert repr(layer) == f"Dropout(p=0.3, inplace={inplace})"
    replace(layer)
    x = torch.ones(100)
    y = layer(x)
    assert (y is x) == (inplace or not training)
    assert bool((y == 0).any()) == training


def test_hooks_stay(x):
    seen = []
    model = Net()
    model.drop.register_forward_pre_hook(lambda module, args: seen.append(("before", type(module))))
    model.drop.register_forward_hook(lambda module, args, y: seen.append(("after", type(module))))
    model.drop.register_full_backward_hook(lambda module, inputs, outputs: seen.append(("backward", type(module))))
    for swap, kind in ((replace, fastdrop.Dropout), (restore, nn.Dropout)):
        swap(model)
        model(x).sum().backward()
        once = [("before", kind), ("after", kind)]
        assert seen == once * 2 + [("backward", kind)] * 2
        seen.clear()


def test_state_dicts_stay(x):
    model = Net()
    nn.utils.parametrizations.weight_norm(model.inner[0])
    saved = copy.deepcopy(model.state_dict())
    replace(model)
    assert list(model.state_dict()) == list(saved)
    with torch.no_grad():
        model.inner[0].bias.add_(1)
    model.load_state_dict(saved)
    assert torch.equal(model.inner[0].bias, saved["inner.0.bias"])
    other = Net()
    nn.utils.parametrizations.weight_norm(other.inner[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model.eval()(x))


# Which modules


def test_subclasses_are_left():
    model = nn.ModuleDict(
        {"one": Subclass(), "two": ChannelSubclass(), "ours": OwnSubclass(), "linear": nn.Linear(2, 2)}
    )
    before = types(model)
    assert replace(model) == ([], {"one": Subclass, "two": ChannelSubclass})
    assert types(model) == before
    assert restore(model) == ([], {})


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_layers_with_dropout_inside_are_reported(p):
    layers = {
        "attention": nn.MultiheadAttention(8, 2, dropout=p),
        "rnn": nn.RNN(4, 4, 2, dropout=p),
        "lstm": nn.LSTM(4, 4, 2, dropout=p),
        "gru": nn.GRU(4, 4, 2, dropout=p),
    }
    assert replace(nn.ModuleDict(layers)) == ([], {name: type(layer) for name, layer in layers.items()} if p else {})


def test_attention_with_a_dropout_module_is_reported_by_that_module():
    attention = nn.MultiheadAttention(8, 2)
    attention.dropout = nn.Dropout(0.1)
    assert replace(attention) == (["dropout"], {})


def test_a_forward_set_on_the_object_is_not_pretended_to_be_ours():
    model = Net()
    model.drop.forward = functools.partial(nn.Dropout.forward, model.drop)
    assert replace(model) == (["inner.1"], {"drop": nn.Dropout})
    assert not drops_as_ours(model.drop)


def test_a_forward_set_on_a_swapped_object_keeps_its_class():
    model = Net()
    replace(model)
    model.drop.forward = functools.partial(fastdrop.Dropout.forward, model.drop)
    assert restore(model) == (["inner.1"], {"drop": fastdrop.Dropout})
    assert drops_as_ours(model.drop)
    del model.drop.forward
    assert restore(model) == (["drop"], {})


def test_a_class_changed_since_is_not_changed_back():
    model = Net()
    replace(model)
    model.drop.__class__ = OwnSubclass
    assert restore(model) == (["inner.1"], {"drop": OwnSubclass})
    assert type(model.drop) is OwnSubclass


@IGNORE_JIT
def test_scripted_and_traced_models_are_left(x):
    scripted = torch.jit.script(nn.Sequential(nn.Linear(16, 4), nn.Dropout(0.5)))
    traced = torch.jit.trace(nn.Sequential(nn.Linear(16, 4), nn.Dropout(0.5)), x, check_trace=False)
    for model in (scripted, traced):
        before = seeded(model, x)
        report = replace(nn.ModuleList([model]))
        assert (report.swapped, list(report.left)) == ([], ["0.1"])
        assert torch.equal(seeded(model, x), before)
        assert restore(model) == ([], {})


def test_the_model_itself():
    layer = nn.Dropout(0.5)
    report = replace(layer)
    assert report == ([""], {})
    assert str(report) == "swapped: 1\n  (the model itself)\nleft: 0"
    assert drops_as_ours(layer)
    assert restore(layer) == ([""], {})
    assert not drops_as_ours(layer)


def test_a_module_of_several_names_has_its_first():
    model = Net()
    assert replace(model).swapped == ["inner.1", "drop"]
    assert restore(model).swapped == ["inner.1", "drop"]


@pytest.fixture
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_through_wrappers_for_parallel_training(process_group, x):
    for wrap in (nn.DataParallel, nn.parallel.DistributedDataParallel):
        model = Net()
        wrapped = wrap(model)
        assert replace(wrapped) == (["module.inner.1", "module.drop"], {})
        assert torch.equal(seeded(wrapped, x), seeded(net_by_functions, model, x, fastdrop.functional.dropout))
        assert restore(model).swapped == ["inner.1", "drop"]
        assert torch.equal(seeded(wrapped, x), seeded(net_by_functions, model, x, nn.functional.dropout))


def test_fx_graphs(x):
    model = Net()
    graph = torch.fx.symbolic_trace(model)
    assert replace(graph) == (["inner.1", "drop"], {})
    assert torch.equal(seeded(graph, x), seeded(net_by_functions, model, x, fastdrop.functional.dropout))
    restore(graph)
    assert torch.equal(seeded(graph, x), seeded(net_by_functions, model, x, nn.functional.dropout))


# The report


def test_a_report_in_words():
    model = nn.ModuleDict({"encoder": nn.TransformerEncoderLayer(8, 2), "mine": Subclass()})
    assert str(replace(model)).splitlines() == [
        "swapped: 3",
        "  encoder.dropout",
        "  encoder.dropout1",
        "  encoder.dropout2",
        "left: 2",
        "  encoder.self_attn: torch.nn.modules.activation.MultiheadAttention",
        f"  mine: {__name__}.Subclass",
    ]


def test_an_empty_report():
    report = replace(nn.Linear(2, 2))
    assert isinstance(report, Report)
    assert report == ([], {})
    assert str(report) == "swapped: 0\nleft: 0"


# Again, and back


def test_a_second_call_changes_nothing(x):
    model = Net()
    assert replace(model).swapped == ["inner.1", "drop"]
    output = seeded(model, x)
    assert replace(model) == ([], {})
    assert torch.equal(seeded(model, x), output)
    assert restore(model).swapped == ["inner.1", "drop"]
    assert restore(model) == ([], {})
    assert replace(model).swapped == ["inner.1", "drop"]


def test_modules_added_since_are_swapped_by_the_next_call():
    model = nn.Sequential(nn.Dropout(0.1))
    replace(model)
    model.append(nn.Dropout(0.2))
    assert replace(model).swapped == ["1"]
    assert restore(model).swapped == ["0", "1"]


def test_ours_that_a_user_built_stay():
    model = nn.Sequential(fastdrop.Dropout(0.1), nn.Dropout(0.1))
    assert replace(model) == (["1"], {})
    assert restore(model) == (["1"], {})
    assert types(model) == [nn.Sequential, fastdrop.Dropout, nn.Dropout]


def test_restore_of_a_model_never_replaced():
    model = nn.Sequential(fastdrop.Dropout(0.1), nn.Dropout(0.1), Subclass())
    before = types(model)
    assert restore(model) == ([], {})
    assert types(model) == before


def through_torch_save(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_torch_save],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_remember(duplicate, x):
    model = Net()
    native = seeded(model, x)
    replace(model)
    ours = seeded(model, x)
    other = duplicate(model)
    assert torch.equal(seeded(other, x), ours)
    assert other.same is other.drop
    assert restore(other) == (["inner.1", "drop"], {})
    assert torch.equal(seeded(other, x), native)
    assert torch.equal(seeded(model, x), ours)
    restore(model)
    assert torch.equal(seeded(model, x), native)


# torch.compile


@pytest.fixture
def compiler() -> Iterator[Callable[[nn.Module], nn.Module]]:
    torch._dynamo.reset()
    yield lambda model: torch.compile(model, backend="eager")
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("model", "names"),
    [(nn.Sequential(nn.Identity(), nn.Dropout(0.5)), ["_orig_mod.1"]), (nn.Dropout(0.5), ["_orig_mod"])],
    ids=["inside", "itself"],
)
def test_a_compiled_model_compiles_itself_again(compiler, model, names):
    compiled = compiler(model)
    assert not drops_as_ours(compiled)
    assert replace(compiled).swapped == names
    assert drops_as_ours(compiled)
    assert restore(compiled).swapped == names
    assert not drops_as_ours(compiled)


def test_a_model_compiled_in_place_does_too(compiler):
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
    model.compile(backend="eager")
    assert not drops_as_ours(model)
    assert replace(model).swapped == ["1"]
    assert drops_as_ours(model)
    restore(model)
    assert not drops_as_ours(model)


# Bad input


@pytest.mark.parametrize("swap", [replace, restore])
@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([nn.Dropout(0.5)], r"list: \[Dropout\(p=0.5, inplace=False\)\]"),
        (None, "NoneType: None"),
        (nn.Dropout, "type: <class 'torch"),
        (Net().state_dict(), "OrderedDict: "),
        ("a" * 1000, r"str: '.{0,50}$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_module(swap, bad, text):
    with pytest.raises(TypeError, match="^model has to be a torch.nn.Module, but got " + text):
        swap(bad)


def test_nothing_is_half_done():
    class Broken(nn.Sequential):
        def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from super().named_modules(*args, **kwargs)
            raise RuntimeError("broken")

    model = Broken(nn.Dropout(0.1), nn.Dropout(0.1))
    for swap, before, after in ((replace, nn.Dropout, fastdrop.Dropout), (restore, fastdrop.Dropout, nn.Dropout)):
        with pytest.raises(RuntimeError, match="broken"):
            swap(model)
        assert {type(layer) for layer in model} == {before}
        for layer in model:
            swap(layer)
        assert {type(layer) for layer in model} == {after}
