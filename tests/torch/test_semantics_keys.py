"""Which seed, offset and generator are accepted, and which error with which text others give."""

import pytest
import torch
from beside_native import BOTH
from oracle import error_of

import fastdrop
from fastdrop.functional import dropout


@BOTH
@pytest.mark.parametrize("name", ["seed", "offset"])
@pytest.mark.parametrize("value", [-1, 2**64, -(2**63), 10**30])
def test_keys_out_of_range(name, value, training):
    text = f"{name} has to be between 0 and 2**64 - 1, but got {value}"
    key = {"seed": 0} | {name: value}
    for call in (
        lambda: dropout(torch.ones(4), 0.5, training, **key),
        lambda: fastdrop.Dropout().train(training)(torch.ones(4), **key),
        lambda: fastdrop.dropout_mask(4, 0.5, **key),
    ):
        assert error_of(call) == ("ValueError", text)


@BOTH
@pytest.mark.parametrize("name", ["seed", "offset"])
@pytest.mark.parametrize(("value", "kind"), [(1.5, "float"), ("a", "str"), ([1], "list"), (0.0, "float"), ("", "str")])
def test_keys_of_a_wrong_type(name, value, kind, training):
    wanted = "TypeError", f"{name} has to be an integer, but got {kind}: {value!r}"
    key = {"seed": 0} | {name: value}
    assert error_of(lambda: dropout(torch.ones(4), 0.5, training, **key)) == wanted
    assert error_of(lambda: fastdrop.dropout_mask(4, 0.5, **key)) == wanted


@BOTH
@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (torch.tensor([1, 2]), "torch.int64 of shape (2,)"),
        (torch.tensor([], dtype=torch.int64), "torch.int64 of shape (0,)"),
        (torch.tensor(1.0), "torch.float32 of shape ()"),
        (torch.tensor([3], dtype=torch.int32), "torch.int32 of shape (1,)"),
    ],
)
def test_seed_tensors_of_a_wrong_kind(seed, kind, training):
    wanted = "TypeError", f"seed has to be an int or an int64 tensor of one element, but got {kind}"
    assert error_of(lambda: dropout(torch.ones(4), 0.5, training, seed=seed)) == wanted
    assert error_of(lambda: fastdrop.dropout_mask(4, 0.5, seed=seed)) == wanted


@BOTH
def test_seed_and_generator_exclude_each_other(training):
    text = "seed and generator exclude each other: a mask comes from one of them, but got both"
    call = error_of(lambda: dropout(torch.ones(4), 0.5, training, seed=0, generator=torch.Generator()))
    assert call == ("ValueError", text)


@pytest.mark.parametrize("generator", [3, "cpu"])
def test_what_is_no_generator(generator):
    assert error_of(lambda: torch.rand(3, generator=generator))[0] == "TypeError"
    with pytest.raises(TypeError, match="generator"):
        dropout(torch.ones(4), 0.5, generator=generator)


def test_keys_are_keywords_only():
    for call in (
        lambda: dropout(torch.ones(4), 0.5, True, False, 3),
        lambda: fastdrop.Dropout(0.5, False, torch.Generator()),
        lambda: fastdrop.Dropout()(torch.ones(4), 3),
    ):
        assert error_of(call)[0] == "TypeError"
