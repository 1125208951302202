"""Gaussian dropout and noise: against normals that NumPy makes, and side by side with Keras."""

import math

import normal_reference
import numpy as np
import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop.functional import gaussian_dropout, gaussian_noise

P, SEED, OFFSET = 0.3, 2**63 + 7, 5
MEMBERS = {"dropout": gaussian_dropout, "noise": gaussian_noise}
every_member = pytest.mark.parametrize("name", MEMBERS)
ULPS = 8  # of the noise: 5 of its z, the others roundings


def wanted(name: str, x: torch.Tensor, p: float = P) -> torch.Tensor:
    """Return the result in float64, by normals of the specification."""
    z = torch.from_numpy(normal_reference.normals(oracle.stream_index(x).numpy().ravel(), SEED, OFFSET))
    z = z.reshape(x.shape).double()
    return x.double() * (1 + math.sqrt(p / (1 - p)) * z) if name == "dropout" else x.double() + p * z


def assert_near(name: str, y: torch.Tensor, x: torch.Tensor, p: float = P) -> None:
    """Check that a result is right to the last bits of its dtype and of float32's noise."""
    exact, eps = wanted(name, x, p), torch.finfo(torch.float32).eps
    noise = (exact - x.double()).abs()
    error = (y.double() - exact).abs()
    rounding = exact.abs().clamp(min=torch.finfo(x.dtype).smallest_normal) * torch.finfo(x.dtype).eps / 2
    assert (error <= rounding + noise * ULPS * eps + 1e-7 * (name == "noise")).all()


@every_member
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "make", [lambda x: x, lambda x: x.t(), lambda x: x[::2]], ids=["dense", "transposed", "sliced"]
)
def test_noise_is_the_specifications(name, dtype, make):
    x = make(torch.randn(60, 70, generator=torch.Generator().manual_seed(0)).to(dtype))
    y = MEMBERS[name](x, P, seed=SEED, offset=OFFSET)
    assert y.dtype is dtype and y.stride() == torch.empty_like(x).stride()
    assert_near(name, y, x)


@every_member
@pytest.mark.parametrize("p", [2**-30, 0.999])
def test_small_and_large_spreads(name, p):
    x = torch.randn(5000)
    assert_near(name, MEMBERS[name](x, p, seed=SEED, offset=OFFSET), x, p)


def test_standard_deviations_beyond_1():
    x = torch.zeros(5000)
    assert_near("noise", gaussian_noise(x, 40.0, seed=SEED, offset=OFFSET), x, 40.0)


@every_member
def test_mean_and_variance(name):
    """Of a million: the sample variance's standard error is sqrt(2 / n), 0.14 %."""
    x = torch.ones(1_000_000)
    y = MEMBERS[name](x, P, seed=1)
    variance = P / (1 - P) if name == "dropout" else P * P
    assert abs(y.mean() - 1) < 5 * math.sqrt(variance / x.numel())
    assert abs(y.var() / variance - 1) < 5 * math.sqrt(2 / x.numel())


@every_member
@pytest.mark.parametrize("dtype", FLOATS)
def test_by_torchs_operators_it_is_the_same_noise(name, dtype):
    x = torch.randn(400).to(dtype)
    with FlopCounterMode(display=False):
        y = MEMBERS[name](x, P, seed=SEED, offset=OFFSET)
    assert y.dtype is dtype
    assert_near(name, y, x)
    z = MEMBERS[name](torch.complex(torch.ones(9), torch.ones(9)), P, seed=SEED)
    assert_same_bits(z.real, MEMBERS[name](torch.ones(9), P, seed=SEED))
    assert_same_bits(z.imag, z.real if name == "dropout" else torch.ones(9))


@every_member
def test_fresh_seeds_follow_torchs(name):
    x = torch.ones(50)
    torch.manual_seed(3)
    first, second = MEMBERS[name](x, P), MEMBERS[name](x, P)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert_same_bits(MEMBERS[name](x, P), first)
    generator = torch.Generator().manual_seed(3)
    assert_same_bits(MEMBERS[name](x, P, generator=generator), first)
    layer = {"dropout": fastdrop.GaussianDropout, "noise": fastdrop.GaussianNoise}[name](P)
    torch.manual_seed(3)
    assert_same_bits(layer(x), first)
    assert layer.eval()(x) is x
    assert MEMBERS[name](x, P, training=False) is x and MEMBERS[name](x, 0.0) is x
    assert MEMBERS[name](x[:0], P).shape == (0,)


@pytest.mark.parametrize(
    "make", [gaussian_dropout, lambda x, p: fastdrop.GaussianDropout(p)], ids=["function", "module"]
)
def test_bad_p_is_refused(make):
    x = torch.ones(3)
    for p, said in [(1.0, "needs p below 1"), (1.5, "between 0 and 1"), (-0.1, "between 0 and 1")]:
        kind, text = error_of(lambda p=p: make(x, p))
        assert kind == "ValueError" and said in text and str(p) in text


@pytest.mark.parametrize(
    "make", [gaussian_noise, lambda x, std: fastdrop.GaussianNoise(std)], ids=["function", "module"]
)
@pytest.mark.parametrize("std", [-0.1, math.inf, math.nan])
def test_bad_std_is_refused(make, std):
    kind, text = error_of(lambda: make(torch.ones(3), std))
    assert kind == "ValueError" and "at least 0 and finite" in text and str(std) in text


@every_member
def test_what_is_no_tensor_of_floats_is_refused(name):
    for x in (torch.ones(3, dtype=torch.int64), torch.eye(3).to_sparse(), 3):
        kind, text = error_of(lambda x=x: MEMBERS[name](x, P))
        assert kind == "TypeError" and f"gaussian_{name} needs" in text


@pytest.mark.parametrize("p", [0.1, 0.6])
@pytest.mark.parametrize("names", [("GaussianDropout", "GaussianDropout"), ("GaussianNoise", "GaussianNoise")])
def test_distribution_is_keras(keras, names, p):
    """By quantiles: of 200,000, those of two samples differ by less than 5 standard errors."""
    x, n = torch.full((200_000,), 2.0), 200_000
    ours = getattr(fastdrop, names[0])(p)(x).sort().values
    theirs = getattr(keras.layers, names[1])(p)(x, training=True).sort().values
    spread = theirs.std().item()
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        density = math.exp(-(torch.special.ndtri(torch.tensor(q, dtype=torch.float64)).item() ** 2) / 2) / math.sqrt(
            2 * math.pi
        )
        error = math.sqrt(2 * q * (1 - q) / n) / density * spread
        assert abs(ours[int(q * n)] - theirs[int(q * n)]) < 5 * error


@pytest.mark.parametrize("noise", [(None, 1, None), (4, 3, 1), (1, 1, 5), None])
def test_noise_shape_is_keras(keras, noise):
    """The same sets of elements share a draw, and are scaled alike."""
    x = torch.rand(4, 3, 5) + 1
    layers = keras.layers.Dropout(0.4, noise_shape=noise), fastdrop.Dropout(0.4, noise_shape=noise)
    calls = lambda: layers[0](x, training=True), lambda: layers[1](x)  # noqa: E731
    together = []
    for call in calls:
        masks = torch.stack([(call() != 0).flatten() for _ in range(80)]).numpy()
        together.append(np.array([[bool((a == b).all()) for b in masks.T] for a in masks.T]))
        y = call()
        torch.testing.assert_close(y[y != 0], (x / 0.6)[y != 0], rtol=3e-7, atol=0)
    assert np.array_equal(*together)
