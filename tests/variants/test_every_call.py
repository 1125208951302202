"""What a call of every variant must do: keep nothing, write in place, be seen, and take the place of torch's."""

from typing import Any

import pytest
import torch
from family_cases import CASES, EVERY_SHAPE, base, in_place
from oracle import assert_same_bits
from torch.overrides import TorchFunctionMode

import fastdrop
from fastdrop import functional

pytestmark = pytest.mark.filterwarnings("ignore:dropout.d. Received a:UserWarning")

SEED = 2**63 + 5
KEEPS = {  # what a variant keeps: nothing, but for
    "drop_block2d": "a mask, a byte an element",
    "drop_block3d": "a mask, a byte an element",
    "drop_connect": "what its product keeps",
    "embedding_dropout": "the words, as an embedding does",
}
IN_PLACE = in_place(EVERY_SHAPE)
OF_TORCH = [  # whose dropout takes no noise_shape
    name for name in EVERY_SHAPE if hasattr(torch.nn.functional, base(name)) and not name.startswith("dropout, mask")
]
every_variant = pytest.mark.parametrize("name", EVERY_SHAPE)


def seeded(function: Any, *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


def saved_by(function: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that autograd keeps of a call for the backward, which then runs."""
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        x = x.requires_grad_() * 1
        saved.clear()
        y = function(x)
    del x
    assert y.requires_grad
    y.sum().backward()
    return saved


@pytest.mark.parametrize("name", [name for name in EVERY_SHAPE if name not in KEEPS])
def test_nothing_is_kept_for_the_backward(name):
    case = EVERY_SHAPE[name]
    assert saved_by(lambda x: x.sin(), case.input()), "so this sees what is kept"
    assert saved_by(case.function, case.input()) == []
    if name in IN_PLACE:
        assert saved_by(lambda x: case.function(x, inplace=True), case.input()) == []


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    case, x = EVERY_SHAPE[name], EVERY_SHAPE[name].input()
    wanted, strides, version, address = case.function(x, seed=SEED), x.stride(), x._version, x.data_ptr()
    assert not torch.equal(wanted, x)
    assert case.function(x, inplace=True, seed=SEED) is x
    assert_same_bits(x, wanted)
    assert (x.stride(), x.data_ptr()) == (strides, address) and x._version > version
    leaf = case.input().requires_grad_()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        case.function(leaf, inplace=True)


@every_variant
def test_who_overrides_functions_sees_ours(name):
    class Seen(TorchFunctionMode):
        calls: list[Any] = []

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls.append((function, kwargs or {}))
            return function(*args, **kwargs or {})

    case = EVERY_SHAPE[name]
    x, key = case.input(), {"seed": SEED, "offset": 2, "generator": None}
    with Seen() as mode:
        y = case.function(x, seed=SEED, offset=2)
    ours = [kwargs for function, kwargs in mode.calls if function is getattr(functional, base(name))]
    assert len(ours) == 1 and key.items() <= ours[0].items()
    assert_same_bits(y, case.function(x, seed=SEED, offset=2))


@pytest.mark.parametrize("name", OF_TORCH)
def test_torchs_function_is_ours_where_it_is_installed(name):
    case = EVERY_SHAPE[name]
    native = getattr(torch.nn.functional, base(name))
    keywords = {key: case.function.keywords[key] for key in ("p", "training")}
    results = []
    for function in (native, case.function):
        x = case.input().requires_grad_()
        with fastdrop.accelerated():
            y = seeded(lambda x, call=function: call(x, **keywords), x)
        results.append([y, *torch.autograd.grad(y, x, torch.ones_like(x))])
    for ours, wanted in zip(*results, strict=True):
        assert_same_bits(ours, wanted)
        assert ours.stride() == wanted.stride()


def test_every_variant_is_here():
    named = {base(name) for name in CASES}
    assert named | {"dropout_mask", "word_dropout"} == set(functional.__all__)
