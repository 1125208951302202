"""Compiled dropout: what it gives, of what and where, and what it refuses."""

import oracle
import pytest
import torch
from exact import integers
from graphs import (
    ALL_LAYOUTS,
    BACKENDS,
    HALF,
    MARKS,
    SEED,
    Function,
    P,
    assert_dropout,
    compiled,
    factors,
    gradient,
    leaf,
    seeded,
    values,
)
from oracle import FLOATS, assert_same_bits
from torch import nn

import fastdrop
from fastdrop.functional import dropout

pytestmark = MARKS

native = nn.functional.dropout


@ALL_LAYOUTS
@pytest.mark.sampled(2)
def test_compiled_dropout(make):
    x = leaf(make(torch.float32))
    assert_dropout(compiled(lambda x: dropout(x, P, seed=SEED, offset=9))(x), x, offset=9)


@BACKENDS
def test_compiled_dropout_of_every_dtype(backend):
    inputs = [leaf(values(40, 6, dtype=dtype).t()) for dtype in FLOATS]
    results = compiled(lambda *inputs: [dropout(x, P, seed=SEED) for x in inputs], backend)(*inputs)
    gradients = torch.autograd.grad(results, inputs, [x.detach().contiguous() for x in inputs])
    for x, *pair in zip(inputs, results, gradients, strict=True):
        for one in pair:
            assert_same_bits(one, oracle.dropout(x.detach(), P, SEED))


PICKS: dict[str, Function] = {
    "elements": lambda x: x[x > 0],
    "rows": lambda x: x[x[:, 0] > 0],
    "rows, transposed": lambda x: x[x[:, 0] > 0].t(),
    "rows, sliced": lambda x: x[x[:, 0] > 0][:, ::2],
    "rows, sliced and transposed": lambda x: x[x[:, 0] > 0][:, ::2].t(),
    "columns, transposed": lambda x: x[:, x[1] > 0].t(),
}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
@pytest.mark.sampled(2)
def test_sizes_that_data_decide(pick):
    x = leaf(values(40, 6))
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        y = compiled(lambda x: dropout(pick(x), P, seed=SEED))(x)
    picked = pick(x)
    assert 0 < picked.numel() < x.numel()
    assert_same_bits(y, oracle.dropout(picked, P, SEED))
    kept = oracle.apply(torch.ones_like(picked), oracle.keep(picked, P, SEED), P)
    assert_same_bits(gradient(y, x), gradient(picked, x, kept))


@BACKENDS
def test_neighbours_change_no_mask(backend):
    # BUG of early versions: a compiler that lays out a tensor in another way moves the mask.
    def run(x: torch.Tensor, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        turned = dropout(x.t() * 2, HALF, seed=SEED) + 1
        twice = dropout(dropout(x.t() + 1, HALF, seed=SEED), HALF, seed=8)
        outwards = dropout(x * 3, HALF, seed=SEED).t().clone(memory_format=torch.contiguous_format) ** 2
        channels = dropout((picture + 1).to(memory_format=torch.channels_last) * 2, HALF, seed=SEED)
        sliced = dropout(x[:, ::2], HALF, seed=SEED) * 3
        summed = dropout(x, HALF, seed=SEED).sum()
        return turned, twice, outwards, channels.contiguous() * 5, sliced, summed

    x, picture = leaf(integers(6, 40)), leaf(integers(2, 3, 4, 5))
    got = compiled(run, backend)(x, picture)
    last = integers(2, 3, 4, 5).to(memory_format=torch.channels_last)
    by_rows, by_columns, by_channels = factors(x), factors(x.t()), factors(last)
    again = by_columns * factors(x.t(), 8)
    wanted = (
        x.t() * 2 * by_columns + 1,
        (x.t() + 1) * again,
        (x * 3 * by_rows).t() ** 2,
        (picture + 1) * 10 * by_channels,
        x[:, ::2] * 3 * factors(x[:, ::2]),
        (x * by_rows).sum(),
    )
    for one, other in zip(got, wanted, strict=True):
        assert_same_bits(one, other)
    (gradients, expected) = (torch.autograd.grad([y.sum() for y in ys], [x, picture]) for ys in (got, wanted))
    for one, other in zip(gradients, expected, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("p", [0, 0.0, 1, 1.0])
def test_compiled_edges_of_p(p):
    x = leaf(values(40))
    y = compiled(lambda x: dropout(x * 2, p))(x)
    assert_same_bits(y, x * 2 * (1 - p) + 0.0)
    assert_same_bits(gradient(y, x), torch.full((40,), 2.0 * (1 - p)))


def test_compiled_module_follows_its_mode():
    model = nn.Sequential(nn.ReLU(), fastdrop.Dropout(HALF))
    run = compiled(model)
    x = leaf(integers(300))
    y = run(x)
    assert_same_bits(gradient(y, x), y / x)
    assert set((y / x).tolist()) == {0.0, 2.0}
    model.eval()
    assert_same_bits(run(x), x)
    model.train()
    assert not torch.equal(run(x), x)
    plain = compiled(lambda x, training: dropout(x, HALF, training))
    assert_same_bits(plain(x, False), x)
    assert not torch.equal(plain(x, True), x)


def test_compiled_module_with_a_key():
    layer = fastdrop.Dropout(P)
    run = compiled(lambda x: layer(x, seed=SEED, offset=4))
    x = leaf(values(300))
    assert_dropout(run(x), x, offset=4)


def test_compiled_in_place_module():
    x = torch.ones(300)
    assert compiled(fastdrop.Dropout(HALF, inplace=True))(x) is x
    assert set(x.tolist()) == {0.0, 2.0}


def test_compiled_in_place():
    def run(x: torch.Tensor) -> torch.Tensor:
        y = x * 3
        dropout(y[2:4], HALF, inplace=True, seed=SEED)
        return dropout(y, HALF, inplace=True, seed=8)

    x = leaf(integers(6, 40))
    d = factors(x, 8)
    d[2:4] *= factors(x[2:4])
    y = compiled(run)(x)
    assert_same_bits(y, x * 3 * d)
    assert_same_bits(gradient(y, x), 3 * d)


@pytest.mark.parametrize(
    "make", [lambda: integers(6, 40), lambda: integers(6, 40).t(), lambda: integers(6, 80)[:, ::2]]
)
def test_compiled_in_place_on_an_argument(make):
    x, argument = make(), make()
    returned = compiled(lambda x: dropout(x, HALF, inplace=True, seed=SEED))(argument)
    assert returned is argument
    assert_same_bits(argument, x * factors(x))


def test_compiled_in_place_on_a_leaf_is_refused():
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        compiled(lambda x: dropout(x, P, inplace=True))(leaf(values(40)))


@pytest.mark.parametrize("p", [1.5, -0.1])
def test_compiled_bad_p(p):
    with pytest.raises(Exception, match=f"dropout probability has to be between 0 and 1, but got {p}"):
        compiled(lambda x: dropout(x, p))(values(4))


@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_bad_seeds(fullgraph):
    for seed in (-1, 2**64, torch.tensor([1, 2]), torch.tensor(1.0)):
        text = "has to be between 0 and 2" if isinstance(seed, int) else "int64 tensor of one element"
        with pytest.raises(Exception, match=text):
            torch.compile(lambda x, seed=seed: dropout(x, P, seed=seed), backend="aot_eager", fullgraph=fullgraph)(
                values(4)
            )


def test_what_is_left_to_torch_stays_so():
    text = "result type Float can't be cast to the desired output type Long|result type torch.float32 can't be cast"
    for call in (native, dropout):
        with pytest.raises(Exception, match=text):
            compiled(lambda x, call=call: call(x, P))(torch.ones(4, dtype=torch.int64))


def test_compiled_dropout_of_complex_numbers():
    x = leaf(torch.complex(integers(300), -integers(300)))
    y = compiled(lambda x: dropout(x, HALF, seed=SEED))(x)
    assert torch.equal(y, x * factors(x.real))
    assert torch.equal(gradient(y, x), factors(x.real).to(y.dtype))


def test_compiled_dropout_of_nothing():
    x = leaf(values(0, 4))
    y = compiled(lambda x: dropout(x, P) * 2)(x)
    assert y.shape == gradient(y, x).shape == (0, 4)


def test_generators_break_the_graph_and_draw_as_without():
    x, generator = torch.ones(300), torch.Generator()

    def twice(x: torch.Tensor) -> torch.Tensor:
        return dropout(x, HALF, generator=generator) + 10 * dropout(x, HALF, generator=generator)

    generator.manual_seed(3)
    wanted = twice(x), twice(x)
    generator.manual_seed(3)
    run = torch.compile(twice, backend="aot_eager")
    before = torch.get_rng_state()
    for one in wanted:
        assert_same_bits(run(x), one)
    assert torch.equal(torch.get_rng_state(), before)
    torch._dynamo.reset()  # or the code in two graphs would be taken
    with pytest.raises(torch._dynamo.exc.Unsupported):  # no graph can hold a torch.Generator
        compiled(twice)(x)


@pytest.mark.parametrize("inside", [False, True])
def test_autocast(inside):
    model = nn.Sequential(nn.Linear(8, 8), fastdrop.Dropout(HALF))

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    x = leaf(values(30, 8))
    wanted = seeded(run, x)
    with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
        y = seeded(compiled(run if inside else model), x)
    assert y.dtype is torch.bfloat16
    assert_same_bits(y, wanted)
    assert_same_bits(gradient(y, x), gradient(wanted, x))
    assert 50 < y.count_nonzero() < 190
