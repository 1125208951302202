"""vmap's three kinds of randomness over torch's dropouts, installed: the checks of torch's own functorch tests."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastdrop

ROWS = 4
CALLS = {
    "dropout": lambda x: F.dropout(x),
    "dropout_": lambda x: F.dropout(x, inplace=True),
    "alpha_dropout": lambda x: F.alpha_dropout(x, training=True),
    "dropout2d": lambda x: F.dropout2d(x),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, training=True),
    "native_dropout": lambda x: torch.native_dropout(x, 0.5, True)[0],
    "module": nn.Dropout(),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "ours": lambda x: fastdrop.functional.dropout(x),
}
REFUSED = {  # unbatched, where rows are to differ: as without install()
    "dropout_": "inplace arithmetic.* is not possible",
    "attention": "different inplace randomness on an unbatched tensor",
}
every_call = pytest.mark.parametrize("name", CALLS)
pytestmark = pytest.mark.usefixtures("installed")


@every_call
@pytest.mark.parametrize("batched", ["first", "last", "none"])
@pytest.mark.parametrize("randomness", ["same", "different", "error"])
def test_randomness(name, batched, randomness):
    def call(x, _):
        return CALLS[name](torch.ones_like(x))

    dim = {"first": 0, "last": -1, "none": None}[batched]
    x = torch.ones(3, 8, 6, 6) if dim is None else torch.ones(3, 8, 6, 6, 1).expand(3, 8, 6, 6, ROWS).movedim(-1, dim)
    mapped = torch.vmap(call, (dim, 0), randomness=randomness)
    if randomness == "error":
        with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
            mapped(x, torch.ones(ROWS))
        return
    if randomness == "different" and dim is None and name in REFUSED:
        with pytest.raises(RuntimeError, match=REFUSED[name]):
            mapped(x, torch.ones(ROWS))
        return
    y = mapped(x, torch.ones(ROWS))
    assert y.shape == (ROWS, 3, 8, 6, 6)
    assert len(y.unique()) > 1
    equal = [torch.equal(one, two) for one, two in itertools.combinations(y, 2)]
    assert all(equal) if randomness == "same" else not any(equal)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "attention"])  # whose gradient is no mask
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_gradients_have_the_masks_of_their_rows(name, randomness):
    def call(x):
        def loss(x):
            y = CALLS[name](x * 1)
            return y.sum(), y

        return torch.func.grad(loss, has_aux=True)(x)

    gradient, y = torch.vmap(call, randomness=randomness)(torch.ones(ROWS, 3, 8, 6, 6))
    assert len(gradient.unique()) == len(y.unique()) == 2
    assert torch.equal(gradient != 0, y == y.max())
    assert (gradient == gradient[0]).all() == (randomness == "same")


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_unbatched_beside_batched(randomness):
    x, y = torch.randn(ROWS, 3), torch.ones(1, 30000)
    got = torch.vmap(lambda x, y: x * 0 + F.dropout(y).mean(1), (0, None), randomness=randomness)(x, y)
    assert len(got.unique()) == (1 if randomness == "same" else ROWS)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        torch.vmap(lambda x, y: x + F.dropout(y).mean(1), (0, None))(x, y)
