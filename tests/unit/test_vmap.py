"""torch.vmap, with keys and with masks that are drawn, against loops and against native dropout."""

import itertools

import oracle
import pytest
import torch
from exact import HARD_P, SEED, P, cube_sum, factors, fixed, integers
from oracle import FLOATS, assert_same_bits, error_of

from fastdrop.functional import dropout

native = torch.nn.functional.dropout

BATCHES = {
    "rows": (lambda: integers(4, 300), 0),
    "columns": (lambda: integers(300, 4), 1),
    "transposed-rows": (lambda: integers(300, 4).t(), 0),
    "transposed-columns": (lambda: integers(4, 300).t(), 1),
    "sliced-rows": (lambda: integers(4, 600)[:, ::2], 0),
    "matrices": (lambda: integers(4, 20, 15), 0),
    "matrices-middle": (lambda: integers(20, 4, 15), 1),
    "matrices-last": (lambda: integers(20, 15, 4), -1),
    "transposed-matrices": (lambda: integers(4, 20, 15).transpose(1, 2), 0),
    "channels_last": (lambda: integers(4, 3, 5, 7).to(memory_format=torch.channels_last), 0),
    "expanded": (lambda: integers(1, 300).expand(4, 300), 0),
    "expanded-inside": (lambda: integers(4, 1).expand(4, 300), 0),
    "scalars": (lambda: integers(4), 0),
}
ALL_BATCHES = pytest.mark.parametrize(("make", "dim"), BATCHES.values(), ids=BATCHES)


@ALL_BATCHES
def test_vmap_with_a_seed_is_a_loop(make, dim):
    x = make()
    loop = torch.stack([oracle.dropout(row, HARD_P, SEED) for row in x.unbind(dim)])
    got = torch.vmap(lambda row: dropout(row, HARD_P, seed=SEED), in_dims=dim)(x)
    assert_same_bits(got, loop)
    got = torch.vmap(lambda row: dropout(row, HARD_P, seed=SEED), in_dims=dim, out_dims=-1)(x)
    assert_same_bits(got, torch.movedim(loop, 0, -1))


@ALL_BATCHES
def test_vmap_over_seeds(make, dim):
    x, seeds = make(), torch.tensor([5, 0, 2**62, -1])
    got = torch.vmap(lambda row, seed: dropout(row, HARD_P, seed=seed), in_dims=(dim, 0))(x, seeds)
    rows = zip(x.unbind(dim), seeds.tolist(), strict=True)
    assert_same_bits(got, torch.stack([oracle.dropout(row, HARD_P, seed % 2**64) for row, seed in rows]))


@ALL_BATCHES
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_scales_every_element_it_keeps(randomness, make, dim):
    x = make()
    got = torch.vmap(lambda row: dropout(row, P), in_dims=dim, randomness=randomness)(x)
    x = x.movedim(dim, 0)
    assert got.shape == x.shape
    assert ((got == 0) | (got == 2 * x)).all()


@ALL_BATCHES
def test_gradient_through_vmap(make, dim):
    x = make()
    got = torch.vmap(torch.func.grad(cube_sum), in_dims=dim)(x)
    assert_same_bits(got, torch.stack([3 * factors(row) ** 3 * row**2 for row in x.unbind(dim)]))
    leaf = x.detach().requires_grad_()
    torch.vmap(fixed, in_dims=dim)(leaf).sum().backward()
    assert_same_bits(leaf.grad.movedim(dim, 0), torch.stack([factors(row) for row in x.unbind(dim)]))
    if 0 in x.stride():
        return  # torch makes no tangents of expanded tensors
    tangent = torch.func.jvp(torch.vmap(fixed, in_dims=dim), (x,), (x + 1,))[1]
    assert_same_bits(tangent, torch.stack([(row + 1) * factors(row) for row in x.unbind(dim)]))


def test_gradient_through_vmap_over_a_drawn_mask():
    x = integers(4, 300).requires_grad_()
    y = torch.vmap(lambda row: dropout(row, P), randomness="different")(x)
    y.sum().backward()
    assert_same_bits(x.grad, y / x)


def test_seed_only_is_batched():
    x, seeds = integers(300), torch.arange(4)
    got = torch.vmap(lambda seed: dropout(x, HARD_P, seed=seed))(seeds)
    assert_same_bits(got, torch.stack([oracle.dropout(x, HARD_P, seed) for seed in range(4)]))


def masks(call, randomness, x, in_dims=0, **options):
    return torch.vmap(call, in_dims, randomness=randomness, **options)(x) != 0


@pytest.mark.parametrize("call", [native, dropout])
def test_vmap_same_and_different(call):
    x = torch.ones(5, 4000)
    torch.manual_seed(1)
    same, different = (masks(lambda row: call(row, 0.25), randomness, x) for randomness in ("same", "different"))
    assert (same == same[0]).all()
    sigma = (4000 * 0.25 * 0.75) ** 0.5
    for row in (same[0], *different):
        assert abs(row.sum() - 3000) < 4 * sigma
    sigma = (4000 * 0.375 * 0.625) ** 0.5
    for one, other in itertools.combinations(different, 2):  # independent: they differ where one of both is dropped
        assert abs((one != other).sum() - 1500) < 4 * sigma


def test_vmap_draws_anew_in_every_call():
    for randomness in ("same", "different"):
        first, second = (masks(lambda row: dropout(row, P), randomness, torch.ones(3, 100)) for _ in range(2))
        assert not torch.equal(first, second)
        torch.manual_seed(7)
        first = masks(lambda row: dropout(row, P), randomness, torch.ones(3, 100))
        torch.manual_seed(7)
        assert torch.equal(masks(lambda row: dropout(row, P), randomness, torch.ones(3, 100)), first)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_with_a_generator(randomness):
    generator, before = torch.Generator().manual_seed(3), torch.get_rng_state()
    first, second = (
        masks(lambda row: dropout(row, P, generator=generator), randomness, torch.ones(3, 100)) for _ in range(2)
    )
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], first[1]) == (randomness == "same")
    generator.manual_seed(3)
    assert torch.equal(masks(lambda row: dropout(row, P, generator=generator), randomness, torch.ones(3, 100)), first)


def test_vmap_unbatched_input():
    x = torch.ones(100)
    for call in (native, dropout):
        rows = masks(lambda _, call=call: call(x, P), "different", torch.ones(4))
        assert rows.shape == (4, 100)
        assert all(not torch.equal(one, other) for one, other in itertools.combinations(rows, 2))
        rows = masks(lambda _, call=call: call(x, P), "same", torch.ones(4))
        assert rows.shape == (4, 100)
        assert (rows == rows[0]).all()


def pattern(rows: torch.Tensor) -> list[bool]:
    """Return which pairs of a (2, 3, n) batch's masks are equal."""
    return [torch.equal(one, other) for one, other in itertools.combinations(rows.flatten(0, 1), 2)]


@pytest.mark.parametrize("outer", ["same", "different", "error"])
@pytest.mark.parametrize("inner", ["same", "different", "error"])
@pytest.mark.parametrize("in_dims", [(0, 0), (1, 0), (2, 1), (0, 1)])
def test_nested_vmap_as_native(in_dims, inner, outer):
    results, errors = [], []
    for call in (native, dropout):
        x = torch.ones(2, 3, 100).movedim(1, 1 + in_dims[1]).movedim(0, in_dims[0])

        def twice(x, call=call):
            once = torch.vmap(lambda row: call(row, P), in_dims[1], randomness=inner)
            return torch.vmap(once, in_dims[0], randomness=outer)(x)

        errors.append(error_of(lambda twice=twice, x=x: twice(x)))
        if errors[-1] is None:
            results.append(twice(x))
            assert set(results[-1].unique().tolist()) == {0.0, 2.0}
    assert errors[0] == errors[1]
    assert ("error" in (inner, outer)) == (errors[0] is not None)
    if results:
        assert results[0].shape == results[1].shape == (2, 3, 100)
        assert pattern(results[0]) == pattern(results[1])


def test_nested_vmap_with_a_seed():
    x = integers(2, 100, 3)
    got = torch.vmap(torch.vmap(fixed, in_dims=1), in_dims=0)(x)
    wanted = [[oracle.dropout(x[i, :, j], P, SEED) for j in range(3)] for i in range(2)]
    assert_same_bits(got, torch.stack([torch.stack(row) for row in wanted]))


@pytest.mark.parametrize("p", [0.0, P, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("randomness", ["same", "different", "error"])
@pytest.mark.parametrize("batched", [True, False])
def test_vmap_fails_where_and_as_native_does(batched, randomness, inplace, p):
    def run(call):
        rows, other = torch.ones(3, 10), torch.ones(10)

        def one(row):
            return row + call(row * 1 if batched else other, p, True, inplace)

        return torch.vmap(one, randomness=randomness)(rows)

    wanted = error_of(lambda: run(native))
    assert error_of(lambda: run(dropout)) == wanted
    if wanted is None:
        assert run(dropout).shape == (3, 10)


def test_vmap_in_chunks_and_of_nothing():
    rows = masks(lambda row: dropout(row, P), "different", torch.ones(5, 100), chunk_size=2)
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(rows, 2))
    assert_same_bits(torch.vmap(fixed, chunk_size=2)(integers(5, 100)), integers(5, 100) * factors(integers(100)))
    empty = torch.vmap(lambda row: dropout(row, P), randomness="different")(torch.ones(0, 4))
    assert empty.shape == (0, 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_vmap_of_every_dtype(dtype):
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = torch.vmap(lambda row: dropout(row, HARD_P, seed=SEED), in_dims=1)(x)
    assert_same_bits(got, torch.stack([oracle.dropout(x[:, i], HARD_P, SEED) for i in range(4)]))
