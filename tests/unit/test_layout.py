"""Strides of outputs, and which element the mask's bits land on, whatever the layout."""

import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits

from fastdrop.functional import dropout

P, SEED = 0.3, 11


def base(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def complex_base(*shape: int) -> torch.Tensor:
    return torch.view_as_complex(base(*shape, 2))


DENSE = {
    "contiguous": lambda: base(4, 6, 5, 8),
    "transposed": lambda: base(40, 60).t(),
    "transposed-4d": lambda: base(4, 6, 5, 8).transpose(1, 2),
    "permuted": lambda: base(4, 6, 5, 8).permute(3, 1, 0, 2),
    "channels_last": lambda: base(4, 6, 5, 8).to(memory_format=torch.channels_last),
    "channels_last_3d": lambda: base(2, 6, 5, 8, 3).to(memory_format=torch.channels_last_3d),
    "leading-slice": lambda: base(6, 5)[2:5],
    "0-d": lambda: base(),
    "one-element": lambda: base(1),
    "size-1-dims": lambda: base(1, 40, 1),
    "size-1-dims-odd-strides": lambda: base(64).as_strided((1, 8, 1), (77, 1, 3)),
    "size-1-dims-odd-strides-transposed": lambda: base(64).as_strided((8, 1, 5), (1, 999, 8)),
    "size-1-dims-zero-strides": lambda: base(64).as_strided((1, 8, 1, 8), (0, 8, 0, 1)),
    "size-1-dims-expanded": lambda: base(64)[None].expand(1, 64),
    "view-as-real": lambda: torch.view_as_real(complex_base(30)),
    "negated": lambda: torch._neg_view(base(20, 30)),
    "negated-transposed": lambda: torch._neg_view(base(20, 30)).t(),
    "flipped": lambda: base(20, 30).flip(0),
    "threads-transposed": lambda: base(200, 333).t(),  # large enough for more than one
    "blocks-transposed": lambda: base(3, 1021).t(),  # several blocks, none of them full rows
}
SCATTERED = {
    "sliced-step": lambda: base(30, 40)[::2],
    "sliced-columns": lambda: base(30, 40)[:, 1:],
    "sliced-last-step": lambda: base(3, 5, 8)[..., ::2],
    "sliced-1d": lambda: base(3001)[::3],
    "sliced-transposed": lambda: base(30, 40)[:, 1:].t(),
    "sliced-permuted": lambda: base(4, 6, 5, 8)[:, 1:].permute(2, 0, 3, 1),
    "sliced-channels_last": lambda: base(4, 6, 5, 8).to(memory_format=torch.channels_last)[:, :3],
    "gaps": lambda: base(40).as_strided((4, 4), (2, 8)),
    "imaginary-part": lambda: complex_base(7, 9).imag,
    "conjugate's-imaginary-part": lambda: complex_base(7, 9).conj().imag,
    "conjugate's-imaginary-part-transposed": lambda: complex_base(7, 9).t().conj().imag,
    "threads-sliced": lambda: base(300, 333)[:, ::2].t(),
}
OVERLAPPING = {
    "expanded": lambda: base(6, 1).expand(6, 40),
    "expanded-front": lambda: base(40).expand(6, 40),
    "expanded-middle-transposed": lambda: base(5, 1, 4).expand(5, 3, 4).permute(2, 0, 1),
    "expanded-scalar": lambda: base().expand(3, 50),
    "overlapping": lambda: base(10).as_strided((4, 4), (2, 1)),
}
ALL = DENSE | SCATTERED | OVERLAPPING


def cases(makers):
    return pytest.mark.parametrize("make", makers.values(), ids=makers)


@pytest.mark.parametrize(("makers", "dense"), [(DENSE, True), (SCATTERED, False), (OVERLAPPING, False)])
def test_oracle_knows_dense_tensors(makers, dense):
    assert {oracle.is_dense(make()) for make in makers.values()} == {dense}
    tensors = [make() for make in makers.values()]
    assert {torch.empty_like(x).stride() == x.stride() for x in tensors} == {dense}  # torch's own opinion


@cases(DENSE)
def test_oracle_counts_dense_elements_as_native_does(make):
    x = torch.ones_like(make())
    torch.manual_seed(1)
    in_memory_order = torch.nn.functional.dropout(torch.ones(x.numel()), P)
    torch.manual_seed(1)
    assert torch.equal(torch.nn.functional.dropout(x, P), in_memory_order[oracle.stream_index(x)])


@cases(ALL)
def test_mask_lands_on_the_right_elements(make):
    x = make()
    before = x.clone()
    assert_same_bits(dropout(x, P, seed=SEED), oracle.dropout(x, P, SEED))
    assert_same_bits(x, before)


@cases(ALL)
def test_strides_are_natives(make):
    x = make()
    y, native = dropout(x, P, seed=SEED), torch.nn.functional.dropout(x, P)
    assert oracle.meaningful_strides(y) == oracle.meaningful_strides(native)
    assert y.storage_offset() == native.storage_offset() == 0
    assert y.is_neg() == native.is_neg()


@cases({name: make for name, make in ALL.items() if "size-1" not in name})
def test_strides_are_natives_to_the_letter(make):
    x = make()
    assert dropout(x, P, seed=SEED).stride() == torch.nn.functional.dropout(x, P).stride()


@cases(DENSE | SCATTERED)
def test_in_place_writes_x_and_nothing_around_it(make):
    x = make()
    wanted, memory = oracle.dropout(x, P, SEED), torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
    outside = torch.ones(memory.shape, dtype=torch.bool)
    outside.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(False)
    before = memory.clone()
    assert dropout(x, P, inplace=True, seed=SEED) is x
    assert_same_bits(x, wanted)
    assert_same_bits(memory[outside], before[outside])


@cases(OVERLAPPING)
def test_in_place_on_shared_memory_fails_as_native_does(make):
    wanted = oracle.error_of(lambda: torch.nn.functional.dropout(make(), P, inplace=True))
    assert oracle.error_of(lambda: dropout(make(), P, inplace=True)) == wanted


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("first", [1, 3, 7])
@pytest.mark.parametrize("dtype", FLOATS)
def test_misaligned_addresses(dtype, first, inplace):
    memory = base(3, 1100, dtype=dtype).reshape(-1)
    x = memory[first : first + 3000]
    assert x.data_ptr() % 16
    wanted, before, after = oracle.dropout(x, P, SEED), memory[:first].clone(), memory[first + 3000 :].clone()
    assert_same_bits(dropout(x, P, inplace=inplace, seed=SEED), wanted)
    assert_same_bits(memory[:first], before)
    assert_same_bits(memory[first + 3000 :], after)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["transposed-4d", "channels_last", "sliced-transposed", "expanded"])
def test_every_dtype_in_every_layout(name, dtype):
    x = ALL[name]().double().to(dtype) if name != "expanded" else base(6, 1, dtype=dtype).expand(6, 40)
    assert_same_bits(dropout(x, P, seed=SEED), oracle.dropout(x, P, SEED))


GRADIENTS = {
    "contiguous": lambda: base(4, 6, 5, 8),
    "transposed": lambda: base(4, 5, 6, 8).transpose(1, 2),
    "permuted": lambda: base(8, 5, 4, 6).permute(2, 3, 1, 0),
    "channels_last": lambda: base(4, 6, 5, 8).to(memory_format=torch.channels_last),
    "stride-0": lambda: base().expand(4, 6, 5, 8),
    "partly-stride-0": lambda: base(4, 1, 5, 1).expand(4, 6, 5, 8),
    "sliced": lambda: base(4, 12, 5, 9)[:, ::2, :, 1:],
    "negated": lambda: torch._neg_view(base(4, 6, 5, 8)),
    "negated-channels_last": lambda: torch._neg_view(GRADIENTS["channels_last"]()),
    "zero": lambda: torch._efficientzerotensor((4, 6, 5, 8)),  # zeros that have no memory
}
FORWARDS = {name: GRADIENTS[name] for name in ("contiguous", "transposed", "channels_last", "stride-0", "sliced")}


@cases(GRADIENTS)
@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS)
def test_gradient_of_any_layout_meets_the_forwards_mask(forward, make):
    x, gradient = forward().detach().requires_grad_(), make()
    y = dropout(x, P, seed=SEED)
    (got,) = torch.autograd.grad(y, x, gradient)
    assert_same_bits(got, oracle.apply(gradient, oracle.keep(x, P, SEED), P))


@cases({name: make for name, make in GRADIENTS.items() if name != "zero"})
@pytest.mark.parametrize("forward", [FORWARDS["contiguous"], FORWARDS["channels_last"]], ids=["contiguous", "nhwc"])
def test_gradient_of_in_place(forward, make):
    leaf, gradient = forward().requires_grad_(), make()
    x = leaf * 1
    kept = oracle.keep(x, P, SEED)
    (got,) = torch.autograd.grad(dropout(x, P, inplace=True, seed=SEED), leaf, gradient)
    assert_same_bits(got, oracle.apply(gradient, kept, P))


@cases(ALL)
def test_gradient_of_a_sum(make):
    x = make().detach().requires_grad_()
    dropout(x, P, seed=SEED).sum().backward()
    assert_same_bits(x.grad, oracle.apply(torch.ones(x.shape), oracle.keep(x, P, SEED), P))


def test_gradient_of_a_convolution_in_channels_last():
    x = torch.arange(4 * 6 * 5 * 8.0).reshape(4, 6, 5, 8).requires_grad_()
    weight = torch.eye(6).reshape(6, 6, 1, 1).to(memory_format=torch.channels_last)
    gradients = []
    y = dropout(x, 0.5, seed=SEED)
    y.register_hook(gradients.append)
    torch.nn.functional.conv2d(y, weight).sum().backward()
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    assert_same_bits(x.grad, oracle.apply(torch.ones(x.shape), oracle.keep(x, 0.5, SEED), 0.5))


@pytest.mark.parametrize("forward", [FORWARDS["contiguous"], FORWARDS["channels_last"]], ids=["contiguous", "nhwc"])
def test_sparse_gradient(forward):
    x = forward().detach().requires_grad_()
    index = torch.randint(4, (3, 6, 5, 8), generator=torch.Generator().manual_seed(2))
    y = dropout(x, P, seed=SEED)
    gradients = []
    y.register_hook(gradients.append)
    torch.gather(y, 0, index, sparse_grad=True).sum().backward()
    assert gradients[0].is_sparse
    wanted = torch.zeros(x.shape).scatter_add_(0, index, torch.ones(index.shape))
    assert_same_bits(x.grad.to_dense(), oracle.apply(wanted, oracle.keep(x, P, SEED), P))
