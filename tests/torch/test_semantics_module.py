"""Beside torch's own module: how it is printed, copied and saved."""

import copy
import io
import pickle

import pytest
import torch

import fastdrop


@pytest.mark.parametrize(("p", "inplace"), [(0.5, False), (0.1, True), (0, False)])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_module_is_natives_twin(p, inplace, again):
    ours, theirs = again(fastdrop.Dropout(p, inplace)), torch.nn.Dropout(p, inplace)
    assert type(ours) is fastdrop.Dropout and isinstance(ours, torch.nn.Dropout)
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    assert ours.state_dict() == theirs.state_dict() == {}
    assert ours.load_state_dict(theirs.state_dict()) == theirs.load_state_dict(ours.state_dict())
    assert (ours.p, ours.inplace, ours.training) == (theirs.p, theirs.inplace, True)
    assert list(ours.parameters()) == list(ours.buffers()) == []
    assert not again(ours.eval()).training


def test_module_without_arguments():
    assert repr(fastdrop.Dropout()) == repr(torch.nn.Dropout())
    assert not fastdrop.Dropout().inplace


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copied_module_has_a_generator_of_its_own(again):
    ours = fastdrop.Dropout(generator=torch.Generator().manual_seed(6))
    ours(torch.ones(5))
    copied = again(ours)
    first = ours(torch.ones(100))
    assert torch.equal(copied(torch.ones(100)), first)  # from the same state, and advancing only its own
    assert torch.equal(copied(torch.ones(100)), ours(torch.ones(100)))


def test_module_is_saved_with_its_model():
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2), fastdrop.Dropout(0.3)), file)
    file.seek(0)
    assert repr(torch.load(file, weights_only=False)[1]) == "Dropout(p=0.3, inplace=False)"
