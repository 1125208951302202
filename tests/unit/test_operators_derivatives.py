"""Derivatives of the operator. A level of torch.func that is passed over gives zeros, not an error."""

import oracle
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from exact import SHAPES, integers
from func_transforms import TRANSFORMS
from graphs import HALF, MARKS, SEED, P, factors, leaf, operator, tensor, values
from oracle import assert_same_bits

pytestmark = MARKS


def fixed(x: torch.Tensor) -> torch.Tensor:
    return operator(x, HALF, tensor(SEED))


ALL_TRANSFORMS = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # torch's own, in linearize
@SHAPES
@ALL_TRANSFORMS
def test_transforms_of_the_operator(transform, make):
    x = make()
    d = factors(x)
    wanted = transform(lambda x: x * d)(x)
    assert wanted.count_nonzero()
    torch.testing.assert_close(transform(fixed)(x), wanted, rtol=1e-13, atol=1e-13)


@SHAPES
def test_tangents(make):
    x, tangent = make(), make().t().contiguous().t() + 1
    with forward_ad.dual_level():
        primal, got = forward_ad.unpack_dual(fixed(forward_ad.make_dual(x, tangent)))
        assert_same_bits(primal, x * factors(x))
        assert_same_bits(got, tangent * factors(x))
        assert forward_ad.unpack_dual(fixed(x)).tangent is None


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_gradcheck(make):
    x = leaf(values(3, 6, dtype=torch.float64))

    def call(x: torch.Tensor) -> torch.Tensor:
        return operator(make(x) * 2, P, tensor(SEED), 1)

    batched = {"check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(call, x, check_forward_ad=True, **batched)
    assert torch.autograd.gradgradcheck(call, x, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_vmap_over_seeds():
    x, seeds = integers(4, 300), torch.tensor([5, 0, 2**62, -1])
    by_row = [oracle.dropout(row, P, seed % 2**64, 2) for row, seed in zip(x, seeds.tolist(), strict=True)]
    assert_same_bits(torch.vmap(lambda row, seed: operator(row, P, seed, 2))(x, seeds), torch.stack(by_row))
    of_one = [oracle.dropout(x[0], P, seed % 2**64, 2) for seed in seeds.tolist()]
    assert_same_bits(torch.vmap(lambda seed: operator(x[0], P, seed, 2))(seeds), torch.stack(of_one))
    columns = torch.vmap(lambda row: operator(row, P, tensor(SEED)), in_dims=1, out_dims=1)(x)
    assert_same_bits(columns, torch.stack([oracle.dropout(x[:, i], P, SEED) for i in range(300)], 1))
