"""What is taken for p, rate or std: numbers as torch takes them, and no tensor whose gradient would be lost."""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracle import error_of
from torch import nn

import fastdrop
import fastdrop.functional as F

X = torch.ones(2, 3, 4, 4)
WORDS = torch.arange(4)
GRAD = torch.tensor(0.5, requires_grad=True)
NO_NUMBERS = {
    "a tensor that requires grad": GRAD,
    "a result that requires grad": GRAD * 1,
    "a parameter": nn.Parameter(torch.tensor(0.5)),
    "a tensor of one dimension": torch.tensor([0.5]),
    "an array without dimensions": np.array(0.5),
    "a fraction": Fraction(1, 2),
}
NUMBERS = [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5), torch.tensor(0.5, dtype=torch.bfloat16)]

BESIDE_TORCH = {  # ours, and torch's of the same name
    "dropout": (F.dropout, nn.functional.dropout, X),
    "dropout1d": (F.dropout1d, nn.functional.dropout1d, X[0]),
    "dropout2d": (F.dropout2d, nn.functional.dropout2d, X),
    "dropout3d": (F.dropout3d, nn.functional.dropout3d, X),
    "alpha_dropout": (F.alpha_dropout, nn.functional.alpha_dropout, X),
    "feature_alpha_dropout": (F.feature_alpha_dropout, nn.functional.feature_alpha_dropout, X),
    **{
        f"module {name}": (
            lambda x, p, training, name=name: getattr(fastdrop, name)(p).train(training)(x),
            lambda x, p, training, name=name: getattr(nn, name)(p).train(training)(x),
            X[0] if name == "Dropout1d" else X,
        )
        for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
    },
}
OTHERS = {  # functions and constructors of a number
    "drop_path": lambda p: F.drop_path(X, p, True, seed=0),
    "stochastic_depth": lambda p: F.stochastic_depth(X, p, "row", seed=0),
    "drop_block2d": lambda p: F.drop_block2d(X, p, 3, seed=0),
    "drop_block3d": lambda p: F.drop_block3d(X[None], p, 1, seed=0),
    "variational_dropout": lambda p: F.variational_dropout(X[0], p, seed=0),
    "gaussian_dropout": lambda p: F.gaussian_dropout(X, p, seed=0),
    "gaussian_noise": lambda p: F.gaussian_noise(X, p, seed=0),
    "drop_connect": lambda p: F.drop_connect(X, torch.ones(5, 4), p=p, seed=0),
    "embedding_dropout": lambda p: F.embedding_dropout(WORDS, torch.ones(4, 4), p, seed=0),
    "word_dropout": lambda p: F.word_dropout(WORDS, p, 9, seed=0),
    "dropout_mask": lambda p: F.dropout_mask(8, p, seed=0),
    "DropPath": lambda p: fastdrop.DropPath(p)(X, seed=0),
    "StochasticDepth": lambda p: fastdrop.StochasticDepth(p, "row")(X, seed=0),
    "DropBlock2d": lambda p: fastdrop.DropBlock2d(p, 3)(X, seed=0),
    "DropBlock3d": lambda p: fastdrop.DropBlock3d(p, 1)(X[None], seed=0),
    "VariationalDropout": lambda p: fastdrop.VariationalDropout(p)(X[0], seed=0),
    "GaussianDropout": lambda p: fastdrop.GaussianDropout(p)(X, seed=0),
    "GaussianNoise": lambda p: fastdrop.GaussianNoise(p)(X, seed=0),
    "SpatialDropout2D": lambda p: fastdrop.SpatialDropout2D(p)(X, seed=0),
    "WordDropout": lambda p: fastdrop.WordDropout(p, 9)(WORDS, seed=0),
    "DropConnect": lambda p: fastdrop.DropConnect(nn.Linear(4, 4), p),
    "EmbeddingDropout": lambda p: fastdrop.EmbeddingDropout(nn.Embedding(4, 4), p),
}
MADE = [name for name in OTHERS if name[0].isupper()]


@pytest.mark.parametrize("p", NO_NUMBERS)
@pytest.mark.parametrize("name", BESIDE_TORCH)
def test_what_is_no_number_is_refused_as_by_torch(name, p):
    ours, theirs, x = BESIDE_TORCH[name]
    for training in (True, False):
        wanted = error_of(lambda training=training: theirs(x, NO_NUMBERS[p], training))
        assert wanted is not None
        kind, text = wanted
        assert kind == "TypeError"
        wanted = kind, text.replace("numpy.", "")  # C's name of the class
        assert error_of(lambda training=training: ours(x, NO_NUMBERS[p], training)) == wanted


@pytest.mark.parametrize("p", NO_NUMBERS)
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_number_is_refused_by_the_whole_family(name, p):
    kind, text = error_of(lambda: OTHERS[name](NO_NUMBERS[p]))
    assert kind == "TypeError"
    assert re.search(rf"must be float, not {type(NO_NUMBERS[p]).__name__}$", text)


@pytest.mark.parametrize("name", OTHERS)
def test_a_string_is_no_number(name):
    assert error_of(lambda: OTHERS[name]("0.5"))[0] == "TypeError"
    assert error_of(lambda: OTHERS[name](None))[0] == "TypeError"


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in ("DropConnect", "EmbeddingDropout")])
def test_all_kinds_of_numbers_are_one(name):
    wanted = OTHERS[name](0.5)
    for number in NUMBERS[1:]:
        assert torch.equal(OTHERS[name](number), wanted)


def test_a_gradient_of_p_is_not_lost_in_transforms():
    def loss(p: torch.Tensor) -> torch.Tensor:
        return F.dropout(X, p, seed=0).sum()

    with pytest.raises(TypeError, match="must be float, not Tensor"):
        torch.func.grad(loss)(torch.tensor(0.5))


@pytest.mark.parametrize("name", [name for name in MADE if name not in ("DropConnect", "EmbeddingDropout")])
def test_a_number_that_is_set_later_is_checked_at_the_call(name):
    attributes = {"SpatialDropout2D": "rate", "GaussianNoise": "std"}
    sizes = {"StochasticDepth": ("row",), "DropBlock2d": (3,), "DropBlock3d": (1,), "WordDropout": (9,)}
    layer = getattr(fastdrop, name)(0.5, *sizes.get(name, ()))
    x = {"WordDropout": WORDS, "DropBlock3d": X[None], "VariationalDropout": X[0]}.get(name, X)
    for bad, error in ((GRAD, TypeError), (-0.5, ValueError)):
        setattr(layer, attributes.get(name, "p"), bad)
        for training in (True, False):
            with pytest.raises(error):
                layer.train(training)(x)
