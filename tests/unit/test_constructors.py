"""Modules refuse bad arguments when they are made, not when they are called; names of the classes they follow."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fastdrop

NAN = float("nan")
MAKERS: dict[str, Callable[..., nn.Module]] = {  # of p, and keywords
    **{name: getattr(fastdrop, name) for name in fastdrop.modules.__all__},
    "DropBlock2d": lambda p, block_size=3, **kwargs: fastdrop.DropBlock2d(p, block_size, **kwargs),
    "DropBlock3d": lambda p, block_size=3, **kwargs: fastdrop.DropBlock3d(p, block_size, **kwargs),
    "DropConnect": lambda p, **kwargs: fastdrop.DropConnect(nn.Linear(2, 2), p, **kwargs),
    "EmbeddingDropout": lambda p, **kwargs: fastdrop.EmbeddingDropout(nn.Embedding(2, 2), p, **kwargs),
    "StochasticDepth": lambda p, mode="row", **kwargs: fastdrop.StochasticDepth(p, mode, **kwargs),
    "WordDropout": lambda p, value=0, **kwargs: fastdrop.WordDropout(p, value, **kwargs),
}
OF_TORCH = {"AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"}
WRAPPERS = {"DropConnect", "EmbeddingDropout"}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("p", [-0.1, 1.5, float("inf"), torch.tensor(2.0), torch.tensor(-1)], ids=str)
def test_p_outside_its_range(name, p):
    if name == "GaussianNoise" and 0 < p < float("inf"):
        assert MAKERS[name](p).std == p
        return
    with pytest.raises(ValueError, match=f"but got {p}|Received: rate={p}"):
        MAKERS[name](p)


@pytest.mark.parametrize("name", MAKERS)
def test_nan(name):
    if name in OF_TORCH:  # which torch accepts, and refuses at the call
        assert MAKERS[name](NAN).p != 0
        return
    kind = ValueError if name == "GaussianNoise" or name.startswith("Spatial") else RuntimeError  # torch's error
    with pytest.raises(kind, match="but got nan|Received: rate=nan"):
        MAKERS[name](NAN)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("p", ["a", [0.5], 1j], ids=str)
def test_p_that_is_no_number(name, p):
    with pytest.raises(TypeError):
        MAKERS[name](p)


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - WRAPPERS))
@pytest.mark.parametrize("generator", ["a", 3, torch.Generator])
def test_what_is_no_generator(name, generator):
    with pytest.raises(TypeError, match="generator has to be a torch.Generator, but got"):
        MAKERS[name](0.5, generator=generator)
    own = torch.Generator()
    assert MAKERS[name](0.5, generator=own).generator is own


BAD = [
    ("StochasticDepth", {"mode": "rows"}, ValueError, "mode has to be either 'batch' or 'row', but got rows"),
    ("StochasticDepth", {"mode": None}, ValueError, "mode has to be either 'batch' or 'row', but got None"),
    *[
        (name, keywords, error, text)
        for name in ("DropBlock2d", "DropBlock3d")
        for keywords, error, text in [
            ({"block_size": 4}, ValueError, "block size should be odd. Got 4 which is even."),
            ({"block_size": 0}, ValueError, "block size should be odd. Got 0 which is even."),
            ({"block_size": -3}, ValueError, "block size should be at least 1, but got -3"),
            ({"block_size": 3.0}, TypeError, "block_size has to be an integer, but got float: 3.0"),
            ({"block_size": (3, 3)}, TypeError, r"block_size has to be an integer, but got tuple: \(3, 3\)"),
            ({"eps": "a"}, TypeError, "eps must be float, not str"),
        ]
    ],
    ("Dropout", {"noise_shape": "11"}, TypeError, "noise_shape has to be a sequence .*, but got str: '11'"),
    ("Dropout", {"noise_shape": 1}, TypeError, "noise_shape has to be a sequence .*, but got int: 1"),
    ("Dropout", {"noise_shape": (1.0, None)}, TypeError, "an entry of noise_shape has to be an integer, but got float"),
    ("Dropout", {"noise_shape": (1, -1)}, ValueError, r"None, 1 or the input's size, but got \(1, -1\)"),
    ("WordDropout", {"value": "unk"}, TypeError, "value has to be an integer, but got str: 'unk'"),
    ("WordDropout", {"value": 2**63}, ValueError, r"value has to be .* below 2\*\*63, but got 9223372036854775808"),
    ("WordDropout", {"value": 1.0}, TypeError, "value has to be an integer, but got float: 1.0"),
    ("SpatialDropout2D", {"data_format": "first"}, ValueError, "data_format=first"),
    ("SpatialDropout3D", {"data_format": "first"}, ValueError, "data_format=first"),
]


@pytest.mark.parametrize(("name", "keywords", "error", "text"), BAD, ids=str)
def test_other_arguments(name, keywords, error, text):
    with pytest.raises(error, match=text):
        MAKERS[name](0.5, **keywords)


def test_p_of_1_is_no_gaussian_dropout():
    with pytest.raises(ValueError, match=r"GaussianDropout needs p below 1, .*, but got 1.0"):
        fastdrop.GaussianDropout(1)


def test_a_noise_shape_can_be_an_iterator():
    layer, x = fastdrop.Dropout(0.5, noise_shape=iter([None, 1])), torch.ones(64, 8)
    for seed in range(2):
        assert torch.equal(layer(x, seed=seed), fastdrop.functional.dropout(x, noise_shape=(64, 1), seed=seed))


# Names of the originals


NAMES = [
    (fastdrop.DropPath, "p", "drop_prob", 0.0),
    (fastdrop.GaussianDropout, "p", "rate", 0.5),
    (fastdrop.GaussianNoise, "std", "stddev", None),
]


@pytest.mark.parametrize(("kind", "name", "theirs", "default"), NAMES)
def test_both_names_are_one(kind: Any, name, theirs, default):
    x = torch.ones(64, 4)
    layers = [kind(0.25), kind(**{name: 0.25}), kind(**{theirs: 0.25})]
    for layer in layers:
        assert getattr(layer, name) == getattr(layer, theirs) == 0.25
        assert torch.equal(layer(x, seed=3), kind(0.25)(x, seed=3))
        setattr(layer, theirs, 0.5)
        assert getattr(layer, name) == 0.5
        assert torch.equal(layer(x, seed=3), kind(0.5)(x, seed=3))
    with pytest.raises(TypeError, match=f"{name} and {theirs} are names of one argument, but got both"):
        kind(0.25, **{theirs: 0.25})
    with pytest.raises((ValueError, TypeError)):
        kind(**{theirs: -0.25})
    if default is None:
        with pytest.raises(TypeError, match=f"missing 1 required argument: {name} or {theirs}"):
            kind()
    else:
        assert getattr(kind(), name) == default
    assert next(iter(inspect.signature(kind).parameters)) == name
