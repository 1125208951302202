"""alpha_dropout and feature_alpha_dropout: beside torch's, by its formula, and what they keep of SELU's activations."""

import math
from collections.abc import Callable

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits

import fastdrop
from fastdrop import functional

P, SEED = 0.3, 2**63 + 11
NAMES = ["alpha_dropout", "feature_alpha_dropout"]
MODULES = {"alpha_dropout": "AlphaDropout", "feature_alpha_dropout": "FeatureAlphaDropout"}
every_function = pytest.mark.parametrize("name", NAMES)

Call = Callable[..., torch.Tensor]


def both(name: str) -> tuple[Call, Call]:
    return getattr(functional, name), getattr(torch.nn.functional, name)


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def keep(name: str, x: torch.Tensor, p: float = P, seed: int = SEED, offset: int = 0) -> torch.Tensor:
    """Return the mask by the specification: of elements in the order of memory, or of channels row by row."""
    counted = torch.empty(*x.shape[:2], *[1] * (x.dim() - 2)) if name.startswith("feature") else x
    return oracle.keep(counted, p, seed, offset).expand(x.shape)


# Beside torch's


@every_function
def test_off_by_default_as_in_torch(name):
    ours, native = both(name)
    x = torch.ones(20, 30)
    assert ours(x) is native(x) is x
    assert ours(x, training=True, seed=1) is not x


@every_function
def test_p_of_1_gives_zeros_as_native_and_draws_nothing(name):
    ours, native = both(name)
    x, state = values(20, 30).abs(), torch.get_rng_state()
    assert_same_bits(ours(x, 1.0, True), native(x, 1.0, True))
    x = torch.tensor([[math.nan, -math.inf, -1.0]], requires_grad=True)
    y = ours(x, 1.0, True)
    assert_same_bits(y, torch.zeros(1, 3))  # where native has NaN and -0
    assert_same_bits(torch.autograd.grad(y, x, x.detach())[0], torch.zeros(1, 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 1 - 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_function
def test_natives_formula_for_the_same_mask(name, dtype, p):
    """Native rounds thrice, ours once: each rounding errs by half a unit of the largest term."""
    ours, _ = both(name)
    x = values(90, 110, 3, dtype=dtype)
    y, kept = ours(x, p, True, seed=SEED), keep(name, x, p).to(dtype)
    a = 1 / math.sqrt((oracle.SELU_LIMIT**2 * p + 1) * (1 - p))
    by_native = x * (kept * a) + (kept - 1) * (oracle.SELU_LIMIT * a) + oracle.SELU_LIMIT * a * p
    terms = (x * a).abs() + 3 * oracle.SELU_LIMIT * a
    assert ((y - by_native).abs() <= 2 * torch.finfo(dtype).eps * terms).all()


# Bit by bit


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 1),
    "turned": lambda x: x.permute(3, 2, 1, 0),
    "sliced": lambda x: x[..., ::2],
    "sliced channels": lambda x: x[:, 3:],
    "expanded": lambda x: x[..., :1].expand(x.shape),
    "negated": lambda x: torch._neg_view(x),
}


@pytest.mark.parametrize("p", [1e-3, P, 0.95])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
@every_function
@pytest.mark.sampled(4)
def test_every_layout(name, layout, dtype, p):
    ours, native = both(name)
    x = LAYOUTS[layout](values(4, 30, 5, 6, dtype=dtype))
    before = x.clone()
    y = ours(x, p, True, seed=SEED, offset=3)
    wanted = oracle.apply_alpha(x, keep(name, x, p, offset=3), p)
    assert_same_bits(y, wanted)
    assert_same_bits(x, before)
    assert y.stride() == native(x, p, True).stride()
    if layout != "expanded":
        assert ours(x, p, True, inplace=True, seed=SEED, offset=3) is x
        assert_same_bits(x, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_value_is_moved_in_float32_and_rounded_once(dtype):
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    x = x[x.isfinite()]
    y = functional.alpha_dropout(x, P, True, seed=SEED)
    assert_same_bits(y, oracle.apply_alpha(x, keep("alpha_dropout", x), P))


@every_function
def test_large_inputs(name):
    x = values(8, 64, 33, 31).round()  # few values, for whom the exact oracle is fast
    y, kept = both(name)[0](x, P, True, seed=SEED), keep(name, x)
    value, where = x.unique(return_inverse=True)
    moved = oracle.apply_alpha(value, torch.ones_like(value, dtype=torch.bool), P)[where]
    assert_same_bits(y, torch.where(kept, moved, oracle.alpha_factors(P, x.dtype)[2]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@every_function
@pytest.mark.sampled(2)
def test_what_is_dropped_is_not_read(name, dtype, value):
    ones = torch.ones(20, 30, 2, dtype=dtype)
    kept = keep(name, ones)
    x = ones.masked_fill(~kept, value).requires_grad_()
    y = both(name)[0](x, P, True, seed=SEED)
    assert_same_bits(y, oracle.apply_alpha(ones, kept, P))
    y.backward(x.detach())
    scale = oracle.alpha_factors(P, dtype)[0]
    assert_same_bits(x.grad, torch.where(kept, torch.tensor(scale, dtype=oracle.COMPUTE[dtype]).to(dtype), 0))


# What it is for


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.8])
@every_function
def test_mean_and_variance_of_selus_activations_stay(name, p):
    x = torch.nn.functional.selu(values(1000, 1000))  # mean 0 and variance 1, by the choice of SELU's constants
    y = both(name)[0](x, p, True, seed=SEED).double()
    sigma = y.numel() ** -0.5
    assert abs(y.mean()) < 6 * sigma
    fourth = ((y**2 - 1) ** 2).mean() ** 0.5  # standard deviation of a square
    assert abs((y**2).mean() - 1) < 6 * fourth * sigma
    plain = functional.dropout(x, p, seed=SEED).double()
    assert abs((plain**2).mean() - 1) > 6 * fourth * sigma  # so this sees when it does not


# Modules


@every_function
@pytest.mark.parametrize("inplace", [False, True])
def test_modules(name, inplace):
    kind, native, x = getattr(fastdrop, MODULES[name]), getattr(torch.nn, MODULES[name]), values(20, 30)
    layer = kind(P, inplace)
    assert isinstance(layer, native) and repr(layer) == repr(native(P, inplace))
    before = x.clone()
    assert_same_bits(layer(x, seed=SEED, offset=2), oracle.apply_alpha(x, keep(name, x, offset=2), P))
    assert_same_bits(x, before)  # in place or not: torch's modules ignore it
    assert native(P, inplace)(x) is not x
    own = kind(P, inplace, generator=torch.Generator().manual_seed(5))
    assert_same_bits(own(x), both(name)[0](x, P, True, generator=torch.Generator().manual_seed(5)))
    torch.manual_seed(8)
    y = layer(x)
    torch.manual_seed(8)
    assert_same_bits(both(name)[0](x, P, True), y)
    assert layer.eval()(x) is x
