"""replace and restore: a second time, of copies, and of compiled models."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from replaced_net import Net, Subclass, batch, drops_as_ours, seeded, types
from torch import nn

import fastdrop
from fastdrop._patch.replace import replace, restore

# Again, and back


def test_a_second_call_changes_nothing():
    x = batch()
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
def test_copies_remember(duplicate):
    x = batch()
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
