"""replace and restore: what a swapped model computes, and what of it stays."""

import copy

import pytest
import torch
from replaced_net import Net, batch, net_by_functions, seeded
from torch import nn

import fastdrop
from fastdrop._patch.replace import REPLACEMENTS, replace, restore

# What a swapped model computes


def test_a_replaced_model_computes_what_our_function_does():
    x = batch()
    model = Net()
    native = seeded(model, x)
    replace(model)
    assert torch.equal(seeded(model, x), seeded(net_by_functions, model, x, fastdrop.functional.dropout))
    assert not torch.equal(seeded(model, x), native)


def test_gradients_too():
    x = batch()
    model, inputs = Net(), x.clone().requires_grad_()
    replace(model)
    (gradient,) = torch.autograd.grad(seeded(model, inputs).sum(), inputs)
    wanted = seeded(net_by_functions, model, inputs, fastdrop.functional.dropout)
    assert torch.equal(gradient, torch.autograd.grad(wanted.sum(), inputs)[0])


def test_restore_gives_native_masks_bit_for_bit():
    x = batch()
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


def test_hooks_stay():
    x = batch()
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


def test_state_dicts_stay():
    x = batch()
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
