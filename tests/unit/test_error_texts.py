"""Errors say what came in a line, however large it is."""

import numpy as np
import pytest
import torch
from torch import nn

import fastdrop
import fastdrop.functional as F
from fastdrop._keys.arguments import cut, shown

LONG = list(range(200_000))
NESTED = [[[[[[list(range(9))] * 9] * 9] * 9] * 9] * 9] * 9
TEXT = "word " * 100_000
X, WORDS = torch.ones(2, 4), torch.arange(4)
LARGE = {
    "a list": LONG,
    "lists of lists": NESTED,
    "a text": TEXT,
    "a dict": dict.fromkeys(LONG),
    "an array": np.zeros((500, 400)),
    "a module": nn.Sequential(*[nn.Linear(2, 2) for _ in range(500)]),
}
CALLS = {
    "word_dropout, words": lambda big: F.word_dropout(big, 0.5, 0),
    "word_dropout, value": lambda big: F.word_dropout(WORDS, 0.5, big),
    "drop_path, input": lambda big: F.drop_path(big, 0.5, True),
    "gaussian_noise, input": lambda big: F.gaussian_noise(big, 0.5),
    "gaussian_noise, std": lambda big: F.gaussian_noise(X, big),
    "variational_dropout, input": lambda big: F.variational_dropout(big, 0.5),
    "drop_block2d, input": lambda big: F.drop_block2d(big, 0.5, 3),
    "drop_block2d, block_size": lambda big: F.drop_block2d(X[None, None], 0.5, big),
    "drop_block2d, eps": lambda big: F.drop_block2d(X[None, None], 0.5, 1, eps=big),
    "stochastic_depth, mode": lambda big: F.stochastic_depth(X, 0.5, big),
    "dropout, seed": lambda big: F.dropout(X, 0.5, seed=big),
    "dropout, offset": lambda big: F.dropout(X, 0.5, offset=big),
    "dropout, generator": lambda big: F.dropout(X, 0.5, generator=big),
    "dropout, noise_shape": lambda big: F.dropout(X, 0.5, noise_shape=big),
    "dropout, an entry": lambda big: F.dropout(X, 0.5, noise_shape=(big, 1)),
    "dropout_mask, start": lambda big: F.dropout_mask(4, 0.5, seed=0, start=big),
    "DropPath, generator": lambda big: fastdrop.DropPath(0.5, generator=big),
    "StochasticDepth, mode": lambda big: fastdrop.StochasticDepth(0.5, big),
    "SpatialDropout2D, data_format": lambda big: fastdrop.SpatialDropout2D(0.5, big),
    "replace": lambda big: fastdrop.replace([big]),
    "mc_dropout, modules": lambda big: fastdrop.mc_dropout(nn.Dropout(), modules=[big]).__enter__(),
    "mc_predict, samples": lambda big: fastdrop.mc_predict(nn.Dropout(), X, big),
    "mc_predict, seed": lambda big: fastdrop.mc_predict(nn.Dropout(), X, seed=big),
    "warmup, ops": lambda big: fastdrop.warmup(ops=map(str, [big])),
}


@pytest.mark.parametrize("big", LARGE)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.sampled(3)
def test_no_error_prints_a_whole_argument(call, big):
    with pytest.raises((TypeError, ValueError)) as caught:
        CALLS[call](LARGE[big])
    text = str(caught.value)
    assert len(text) < 600 and "\n" not in text


def test_many_arguments_are_not_printed_either():
    inputs = tuple(torch.ones(i + 1, 2) for i in range(500))
    for call in (
        lambda: fastdrop.mc_predict(nn.Dropout(), inputs),
        lambda: F.dropout(X, noise_shape=[1] * 5000),
        lambda: F.dropout(torch.ones(4), noise_shape=[10**300]),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", [10**300, -(10**300), 10**6000, -(10**6000)], ids=["many", "few", "most", "least"])
def test_numbers_of_many_digits(number):
    for call in (
        lambda: F.dropout(X, 0.5, seed=number),
        lambda: F.dropout(X, 0.5, offset=number),
        lambda: F.word_dropout(WORDS, 0.5, number),
        lambda: fastdrop.mc_predict(nn.Dropout(), X, min(number, -number)),
    ):
        with pytest.raises(ValueError, match="has to be (between|at least)") as caught:
            call()
        assert len(str(caught.value)) < 200


def test_what_is_shown():
    assert shown(2.0) == "float: 2.0"
    assert shown("unk") == "str: 'unk'"
    assert shown(None) == "NoneType: None"
    assert shown(torch.ones(2, 3)) == "Tensor of shape (2, 3)"
    assert shown(np.ones(())) == "ndarray of shape ()"
    assert shown(LONG) == "list: [0, 1, 2, 3, 4, 5, ...]"
    assert cut("two\nlines") == "two lines"
    assert cut("a" * 80) == "a" * 80
    assert cut("a" * 81) == "a" * 77 + "..."


def test_what_cannot_be_shown():
    class Broken:
        def __repr__(self) -> str:
            raise KeyError

    with pytest.raises(TypeError, match="seed has to be an integer, but got Broken: <Broken instance at 0x"):
        F.dropout(X, seed=Broken())
