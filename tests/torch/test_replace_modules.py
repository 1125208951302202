"""replace and restore: which modules of which models are swapped, what is reported of them, and what is refused."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from replaced_net import (
    ChannelSubclass,
    Net,
    OwnSubclass,
    Subclass,
    batch,
    drops_as_ours,
    layers_with_dropout_inside,
    net_by_functions,
    seeded,
    types,
)
from torch import distributed, nn

import fastdrop
from fastdrop._patch.replace import Report, replace, restore

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
    layers = layers_with_dropout_inside(p)
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


def test_scripted_and_traced_models_are_left():
    x = batch()
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


def test_through_wrappers_for_parallel_training(process_group):
    x = batch()
    for wrap in (nn.DataParallel, nn.parallel.DistributedDataParallel):
        model = Net()
        wrapped = wrap(model)
        assert replace(wrapped) == (["module.inner.1", "module.drop"], {})
        assert torch.equal(seeded(wrapped, x), seeded(net_by_functions, model, x, fastdrop.functional.dropout))
        assert restore(model).swapped == ["inner.1", "drop"]
        assert torch.equal(seeded(wrapped, x), seeded(net_by_functions, model, x, nn.functional.dropout))


def test_fx_graphs():
    x = batch()
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
        f"  mine: {Subclass.__module__}.Subclass",
    ]


def test_an_empty_report():
    report = replace(nn.Linear(2, 2))
    assert isinstance(report, Report)
    assert report == ([], {})
    assert str(report) == "swapped: 0\nleft: 0"


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
