"""SpatialDropout1D, 2D and 3D side by side with Keras's, on its torch backend."""

from typing import Any

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of

import fastdrop

P, SEED = 0.4, 2**63 + 11
SIZES = {"SpatialDropout1D": (5, 4, 6), "SpatialDropout2D": (5, 3, 2, 6), "SpatialDropout3D": (5, 3, 2, 2, 6)}
FORMATS = [None, "channels_last", "channels_first", "CHANNELS_First"]
LAYERS = [("SpatialDropout1D", {})]
LAYERS += [(name, {"data_format": chosen}) for name in ("SpatialDropout2D", "SpatialDropout3D") for chosen in FORMATS]
every_layer = pytest.mark.parametrize(("name", "kwargs"), LAYERS)


def noise_of(name: str, kwargs: dict[str, Any]) -> tuple[int, ...]:
    batch, *spatial, last = SIZES[name]
    ones = [1] * len(spatial)
    return (batch, spatial[0], *ones) if "first" in str(kwargs).lower() else (batch, *ones, last)


def draws_of(y: torch.Tensor, noise: tuple[int, ...]) -> torch.Tensor:
    """Return the mask that a result shows, by channels, which are dropped or kept as a whole."""
    kept = y != 0
    firsts = kept[tuple(slice(size) for size in noise)]
    assert torch.equal(kept, firsts.expand_as(kept))
    return firsts.flatten()


@every_layer
def test_the_same_sets_of_elements_are_channels(keras, name, kwargs):
    x, noise = torch.rand(SIZES[name]) + 1, noise_of(name, kwargs)
    ours, theirs = getattr(fastdrop, name)(0.5, **kwargs), getattr(keras.layers, name)(0.5, **kwargs)
    for call in (ours, lambda x: theirs(x, training=True)):
        masks = torch.stack([draws_of(call(x), noise) for _ in range(60)])
        assert masks.unique(dim=1).shape[1] == noise[0] * max(noise[1], noise[-1])  # each has a draw of its own


@every_layer
def test_what_is_kept_is_scaled_as_by_keras(keras, name, kwargs):
    x, noise = torch.rand(SIZES[name]) + 1, noise_of(name, kwargs)
    theirs = getattr(keras.layers, name)(P, **kwargs)(x, training=True)
    ours = getattr(fastdrop, name)(P, **kwargs)(x)
    both = draws_of(theirs, noise) & draws_of(ours, noise)
    assert both.any()
    where = both.reshape(noise).expand_as(x)
    torch.testing.assert_close(ours[where], theirs[where], rtol=2e-7, atol=0)


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
def test_masks_of_the_stream(name, kwargs, dtype):
    x, noise = (torch.rand(SIZES[name]) - 0.5).to(dtype), noise_of(name, kwargs)
    kept = oracle.keep(torch.empty(noise), P, SEED, 3).expand(x.shape)
    layer = getattr(fastdrop, name)(P, **kwargs)
    assert_same_bits(layer(x, seed=SEED, offset=3), oracle.apply(x, kept, P))
    leaf = x.clone().requires_grad_()
    layer(leaf, seed=SEED, offset=3).backward(x)
    assert_same_bits(leaf.grad, oracle.apply(x, kept, P))


@every_layer
@pytest.mark.parametrize("rate", [0, 0.0, 1, 1.0, True])
def test_edges_of_the_rate(keras, name, kwargs, rate):
    x = torch.full(SIZES[name], -float("inf"))
    layer, theirs = getattr(fastdrop, name)(rate, **kwargs), getattr(keras.layers, name)(rate, **kwargs)
    assert layer.rate is rate
    assert_same_bits(layer(x), theirs(x, training=True))
    assert layer.eval()(x) is x


@every_layer
@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), "a", None], ids=str)
def test_bad_rates(keras, name, kwargs, rate):
    wanted = error_of(lambda: getattr(keras.layers, name)(rate, **kwargs))
    assert wanted is not None
    assert error_of(lambda: getattr(fastdrop, name)(rate, **kwargs)) == wanted


@pytest.mark.parametrize("name", ["SpatialDropout2D", "SpatialDropout3D"])
@pytest.mark.parametrize("data_format", ["channels", "", 3, True])
def test_bad_formats(keras, name, data_format):
    wanted = error_of(lambda: getattr(keras.layers, name)(0.5, data_format))
    assert wanted is not None
    assert error_of(lambda: getattr(fastdrop, name)(0.5, data_format)) == wanted


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("rank", range(1, 7))  # Keras makes a batch of numbers by itself
@pytest.mark.parametrize("training", [False, True])
def test_ranks(keras, name, rank, training):
    x = torch.ones([2] * rank)
    wanted = error_of(lambda: getattr(keras.layers, name)(0.5, name=name)(x, training=training))
    assert (wanted is None) == (rank == len(SIZES[name]))
    got = error_of(lambda: getattr(fastdrop, name)(0.5).train(training)(x))
    if wanted is None:
        assert got is None
    else:
        assert got[0] == wanted[0] and got[1].startswith("Input of layer ")
        assert got[1].partition("layer ")[2] == wanted[1].partition("layer ")[2]


@every_layer
def test_generators_and_reproducibility(name, kwargs):
    x = torch.ones(SIZES[name])
    own = getattr(fastdrop, name)(P, **kwargs, generator=torch.Generator().manual_seed(5))
    first = own(x)
    own.generator.manual_seed(5)
    assert torch.equal(own(x), first)
    assert not torch.equal(own(x), first)
    layer = getattr(fastdrop, name)(P, **kwargs)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), y)
    torch.manual_seed(1)
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), y)
    torch._dynamo.reset()


def test_reprs_and_defaults(keras):
    assert repr(fastdrop.SpatialDropout1D(0.2)) == "SpatialDropout1D(rate=0.2)"
    assert repr(fastdrop.SpatialDropout2D(0.2)) == "SpatialDropout2D(rate=0.2, data_format='channels_last')"
    assert fastdrop.SpatialDropout3D(0.2).data_format == keras.layers.SpatialDropout3D(0.2).data_format
