"""dropout1d, 2d and 3d side by side with torch's, and bit by bit against the mask stream's specification."""

import math
from collections.abc import Callable

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits

import fastdrop
from fastdrop import functional

P, SEED = 0.4, 2**63 + 11
NAMES = ["dropout1d", "dropout2d", "dropout3d"]
NOISE = {  # function and rank of its input -> how many of the leading dimensions have draws of their own
    "dropout1d": {2: 1, 3: 2},
    "dropout2d": {2: 2, 3: 2, 4: 2, 5: 2, 6: 2},
    "dropout3d": {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 1},
}
RANKS = [(name, rank) for name, ranks in NOISE.items() for rank in ranks]
every_function = pytest.mark.parametrize("name", NAMES)
every_rank = pytest.mark.parametrize(("name", "rank"), RANKS)
unwarned = pytest.mark.filterwarnings("ignore:dropout.d. Received a:UserWarning")

Call = Callable[..., torch.Tensor]


def both(name: str) -> tuple[Call, Call]:
    return getattr(functional, name), getattr(torch.nn.functional, name)


def shape_of(rank: int) -> tuple[int, ...]:
    return (5, 6, 2, 3, 2, 2)[:rank]


def noise_of(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    own = NOISE[name][len(shape)]
    return (*shape[:own], *[1] * (len(shape) - own))


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def keep(name: str, x: torch.Tensor, p: float = P, seed: int = SEED, offset: int = 0) -> torch.Tensor:
    """Return the mask by the specification: the channels counted row by row."""
    return oracle.keep(torch.empty(noise_of(name, tuple(x.shape))), p, seed, offset).expand(x.shape)


# Which inputs are taken


def test_where_a_warning_points():
    with pytest.warns(UserWarning, match="deprecated") as caught:
        functional.dropout3d(torch.ones(2, 3))
    assert caught[0].filename == __file__


@every_rank
@pytest.mark.parametrize("inplace", [False, True])
@unwarned
def test_the_same_object_where_nothing_is_to_be_done(name, rank, inplace):
    leaf = torch.ones(shape_of(rank), requires_grad=True)  # torch unsqueezes one without a batch, and then refuses it
    for p, training in [(0.0, True), (0.5, False), (1.0, False)]:
        assert both(name)[0](leaf, p, training, inplace) is leaf


# Masks


def assert_drops_by(noise: tuple[int, ...], call: Callable[[], torch.Tensor]) -> None:
    """Check that what a call drops has draws of this shape, each its own."""
    kept = torch.stack([call() != 0 for _ in range(60)])
    firsts = kept[(slice(None), *(slice(size) for size in noise))]
    assert torch.equal(kept, firsts.expand_as(kept))
    assert firsts.flatten(1).unique(dim=1).shape[1] == math.prod(noise)


@every_rank
@unwarned
def test_what_shares_a_draw_is_what_shares_one_in_native(name, rank):
    shape = shape_of(rank)
    for function in both(name):
        assert_drops_by(noise_of(name, shape), lambda function=function: function(torch.ones(shape), 0.5))


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last) if x.dim() == 4 else x.mT.contiguous().mT,
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "turned": lambda x: x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim()))),
    "sliced": lambda x: torch.cat([x, x], -1)[..., ::2],
    "sliced channels": lambda x: torch.cat([x, x], 1)[:, 1 : x.shape[1] + 1],
    "expanded": lambda x: x[..., :1].expand(x.shape),
    "expanded channels": lambda x: x[:, :1].expand(x.shape),
    "shifted": lambda x: torch.cat([x.flatten(), x.flatten()])[3 : 3 + x.numel()].view(x.shape),
    "negated": lambda x: torch._neg_view(x),
    "one channel": lambda x: x[:, :1],
}
SHAPES = [
    ("dropout1d", (3, 70, 9)),
    ("dropout1d", (70, 9)),
    ("dropout2d", (3, 20, 5, 7)),
    ("dropout2d", (2, 30, 1, 1)),
    ("dropout3d", (2, 5, 3, 2, 4)),
    ("dropout3d", (20, 3, 2, 4)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_mask_and_strides_of_every_layout(name, shape, make, dtype):
    ours, native = both(name)
    x = make(values(*shape, dtype=dtype))
    before = x.clone()
    y = ours(x, P, seed=SEED, offset=7)
    assert_same_bits(y, oracle.apply(x, keep(name, x, offset=7), P))
    assert_same_bits(x, before)
    assert oracle.meaningful_strides(y) == oracle.meaningful_strides(native(x, P))
    assert y.is_neg() == native(x, P).is_neg()


@pytest.mark.parametrize("make", [m for m in LAYOUTS.items() if "expanded" not in m[0]], ids=lambda m: m[0])
@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_in_place(name, shape, make):
    ours, _ = both(name)
    x = make[1](values(*shape))
    wanted, strides, version = oracle.apply(x, keep(name, x), P), x.stride(), x._version
    assert ours(x, P, inplace=True, seed=SEED) is x
    assert_same_bits(x, wanted)
    assert x.stride() == strides and x._version > version


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 128, 33, 31), (70, 1100, 2, 1), (1, 3, 300, 400)])
def test_large_inputs(shape, memory_format):
    x = values(*shape).to(memory_format=memory_format)
    y = functional.dropout2d(x, P, seed=SEED)
    assert_same_bits(y, oracle.apply(x, keep("dropout2d", x), P))
    assert y.is_contiguous(memory_format=memory_format)


@every_rank
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@unwarned
def test_a_dropped_channel_is_not_read(name, rank, value):
    function, ones = both(name)[0], torch.ones(shape_of(rank))
    kept = keep(name, ones)
    x = ones.masked_fill(~kept, value).requires_grad_()
    y = function(x, P, seed=SEED)
    assert_same_bits(y, oracle.apply(ones, kept, P))
    y.backward(x.detach())
    assert_same_bits(x.grad, oracle.apply(ones, kept, P))


@every_rank
@unwarned
def test_p_of_1_gives_positive_zeros_and_draws_nothing(name, rank):
    x = torch.full(shape_of(rank), -math.inf)
    state = torch.get_rng_state()
    assert_same_bits(both(name)[0](x, 1.0), torch.zeros_like(x))
    assert torch.equal(torch.get_rng_state(), state)


@every_function
def test_every_p_drops_its_share_and_neighbours_are_independent(name):
    x = torch.ones(200, 500, *[1] * int(name[-2]))
    torch.manual_seed(3)
    for p in (0.02, 0.3, 0.9):
        dropped = (both(name)[0](x, p) == 0).flatten(1)
        pairs = dropped[:, :-1] & dropped[:, 1:], dropped[:-1] & dropped[1:]
        for event, chance in [(dropped, p), *[(pair, p**2) for pair in pairs]]:
            sigma = (chance * (1 - chance) / event.numel()) ** 0.5
            assert abs(event.double().mean() - chance) < 6 * sigma  # pairs overlap, which widens theirs by a third


# What native has to do


@every_rank
@unwarned
def test_complex_numbers_with_a_key_take_the_streams_mask(name, rank):
    x = torch.full(shape_of(rank), 1 - 2j)
    y = both(name)[0](x, P, seed=SEED)
    torch.testing.assert_close(y, torch.where(keep(name, x), x / (1 - P), 0))


@every_rank
@unwarned
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning")
def test_traced_functions_lose_whole_channels(name, rank, inplace):
    x = torch.ones(shape_of(rank))
    traced = torch.jit.trace(lambda x: both(name)[0](x * 1, 0.5, True, inplace), x, check_trace=False)
    assert_drops_by(noise_of(name, x.shape), lambda: traced(x))


@every_rank
@unwarned
def test_meta_tensors(name, rank):
    x = torch.empty(shape_of(rank), device="meta")
    y = both(name)[0](x, P)
    assert (y.shape, y.stride(), y.device.type) == (x.shape, x.stride(), "meta")
    assert both(name)[0](x, P, inplace=True) is x and x.shape == y.shape


# Modules


@every_function
def test_modules(name):
    kind, native = getattr(fastdrop, name.capitalize()), getattr(torch.nn, name.capitalize())
    x = values(*shape_of(int(name[-2]) + 2))
    layer = kind(P)
    assert (
        isinstance(layer, native)
        and repr(layer) == repr(native(P))
        and repr(kind(inplace=True)) == repr(native(0.5, True))
    )
    assert_same_bits(layer(x, seed=SEED, offset=2), oracle.apply(x, keep(name, x, offset=2), P))
    own = kind(P, generator=torch.Generator().manual_seed(5))
    assert_same_bits(own(x), both(name)[0](x, P, generator=torch.Generator().manual_seed(5)))
    assert_same_bits(own(x, seed=3), both(name)[0](x, P, seed=3))
    torch.manual_seed(8)
    y = layer(x)
    torch.manual_seed(8)
    assert_same_bits(both(name)[0](x, P), y)
    assert layer.eval()(x) is x
    assert kind(P, True)(x) is x and not x.all()
