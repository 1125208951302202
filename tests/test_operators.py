"""Dropout in graphs: compiled, exported, traced and checkpointed, and its operators called by hand."""

import functools
import io
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mask_reference
import numpy as np
import oracle
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from oracle import FLOATS, assert_same_bits, error_of, meaningful_strides
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import fastdrop
from fastdrop.functional import dropout, dropout_mask

pytestmark = [  # of torch's own code
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

Function = Callable[..., Any]
native = nn.functional.dropout
operator = torch.ops.fastdrop.dropout.default
mask_operator = torch.ops.fastdrop.dropout_mask.default
P, SEED = 0.3, 2**63 + 5
HALF = 0.5  # with integers all is exact, in whatever order it is computed
SEEDS = [5, 6, 2**32, 2**63 - 1, 2**62 + 1, 0]
LARGE_SEEDS = [2**63, 2**64 - 1, 2**63 + 77]

NO_COMPILER = sys.platform != "linux" or not (shutil.which("g++") or shutil.which("clang++"))
INDUCTOR = pytest.param("inductor", marks=pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler"))
BACKENDS = pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Keep no graph from one test to another, nor from one run to another."""
    torch._dynamo.reset()
    with torch._functorch.config.patch(enable_autograd_cache=False), torch._inductor.config.patch(fx_graph_cache=False):
        yield
    torch._dynamo.reset()


def compiled(function: Function, backend: str = "aot_eager", **options: Any) -> Function:
    return torch.compile(function, backend=backend, fullgraph=True, **options)


def counted(
    function: Function, backend: str = "aot_eager", **options: Any
) -> tuple[Function, CompileCounterWithBackend]:
    """Return a compiled function, and what counts its graphs (a p that is no literal takes two, as native's does)."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True, **options), counter


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def integers(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(1, 8, shape, generator=generator).double()


def leaf(x: torch.Tensor) -> torch.Tensor:
    return x.detach().requires_grad_()


def gradient(y: torch.Tensor, x: torch.Tensor, grad_output: torch.Tensor | None = None) -> torch.Tensor:
    return torch.autograd.grad(y, x, torch.ones_like(y) if grad_output is None else grad_output)[0]


def seeded(function: Function, *args: Any) -> Any:
    torch.manual_seed(12)
    return function(*args)


def tensor(seed: int) -> torch.Tensor:
    """Return a seed as the operators take it."""
    return torch.tensor(seed - 2**64 if seed >= 2**63 else seed)


def turned(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor of this shape whose dimensions lie in memory the other way round."""
    return values(*reversed(shape), dtype=dtype).permute(tuple(reversed(range(len(shape)))))


def factors(x: torch.Tensor, seed: int = SEED) -> torch.Tensor:
    """Return what dropout with p = HALF multiplies each element of x by."""
    return oracle.apply(torch.ones_like(x, requires_grad=False), oracle.keep(x, HALF, seed), HALF)


def assert_dropout(y: torch.Tensor, x: torch.Tensor, seed: int = SEED, offset: int = 0) -> None:
    """Check a dropout of a leaf x, its gradient for one of another layout, and that no graph changed its strides."""
    assert_same_bits(y, oracle.dropout(x.detach(), P, seed, offset))
    assert meaningful_strides(y) == meaningful_strides(torch.empty_like(x))
    if x.requires_grad:
        grad_output = turned(*x.shape, dtype=x.dtype)
        wanted = oracle.apply(grad_output, oracle.keep(x, P, seed, offset), P)
        assert_same_bits(gradient(y, x, grad_output), wanted)


def calls(graph: torch.fx.GraphModule, target: Any = operator) -> int:
    """Return how often a graph calls an operator."""
    return sum(node.target is target for node in graph.graph.nodes)


LAYOUTS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "contiguous": lambda dtype: values(6, 40, dtype=dtype),
    "transposed": lambda dtype: values(40, 6, dtype=dtype).t(),
    "channels_last": lambda dtype: values(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last),
    "permuted": lambda dtype: values(3, 4, 5, dtype=dtype).permute(2, 0, 1),
    "sliced": lambda dtype: values(6, 80, dtype=dtype)[:, ::2],
    "expanded": lambda dtype: values(6, 1, dtype=dtype).expand(6, 40),
    "shifted": lambda dtype: values(300, dtype=dtype)[17:],
    "of one row": lambda dtype: values(1, 40, 6, dtype=dtype).permute(2, 0, 1),
    "0-d": lambda dtype: values(dtype=dtype),
    "empty": lambda dtype: values(0, 4, dtype=dtype),
    "sliced and transposed": lambda dtype: values(6, 80, dtype=dtype)[:, ::2].t(),
}
ALL_LAYOUTS = pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
SHAPES = pytest.mark.parametrize(
    "make",
    [lambda: integers(12), lambda: integers(3, 4).t(), lambda: integers(3, 8)[:, ::2]],
    ids=["1d", "t", "sliced"],
)


# The operators by themselves


@ALL_LAYOUTS
def test_opcheck_of_layouts(make):
    torch.library.opcheck(operator, (leaf(make(torch.float32)), P, tensor(SEED), 3))


def test_opcheck_without_gradients():
    for x in (values(6, 40), values(6, 80)[:, ::2].t()):
        torch.library.opcheck(operator, (x, P, tensor(SEED)))


@pytest.mark.parametrize(
    ("dtype", "args"),
    [
        *[(dtype, (P, tensor(SEED))) for dtype in FLOATS],
        *[(torch.float32, (p, torch.tensor([7]))) for p in (0.0, 1.0)],
        *[(torch.float32, (P, tensor(SEED), offset)) for offset in (2**63 - 1, -1)],
        *[(torch.float32, (P, tensor(SEED), 2, strides)) for strides in ([40, 1], [1, 6], None)],
    ],
)
def test_opcheck_of_arguments(dtype, args):
    torch.library.opcheck(operator, (leaf(values(40, 6).t().to(dtype)), *args))


def test_opcheck_of_complex_numbers():
    for name in ("contiguous", "transposed", "sliced", "sliced and transposed"):
        torch.library.opcheck(operator, (leaf(LAYOUTS[name](torch.complex64)), P, tensor(SEED)))


@pytest.mark.parametrize("args", [(), (3,), (-1, 2**40), (0, 0, torch.device("cpu"))])
@pytest.mark.parametrize("size", [[], [6, 40], [0, 4]])
def test_opcheck_of_masks(size, args):
    torch.library.opcheck(mask_operator, (size, P, tensor(SEED), *args))


@pytest.mark.parametrize("dtype", FLOATS)
@ALL_LAYOUTS
def test_operator_is_dropout(make, dtype):
    x = leaf(make(dtype))
    assert_dropout(operator(x, P, tensor(SEED), 5), x, offset=5)


@pytest.mark.parametrize("recorded", [False, True], ids=["", "requires_grad"])
@ALL_LAYOUTS
def test_operator_counts_in_the_order_of_given_strides(make, recorded):
    x = make(torch.float32).detach().requires_grad_(recorded)
    for other in (values(*x.shape), turned(*x.shape)):
        y = operator(x, P, tensor(SEED), 0, other.stride())
        kept = oracle.keep(other, P, SEED)
        assert_same_bits(y, oracle.apply(x, kept, P))
        assert y.stride() == other.stride() or not y.numel()
        if recorded:
            assert_same_bits(gradient(y, x, other), oracle.apply(other, kept, P))


def test_operator_records_only_where_it_has_to():
    x = leaf(values(40))
    saved = operator(x, P, tensor(SEED)).grad_fn.saved_tensors
    assert [(one.shape, one.dtype) for one in saved] == [((), torch.int64)]
    assert not operator(x.detach(), P, tensor(SEED)).requires_grad
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            y = operator(x, P, tensor(SEED))
            assert not y.requires_grad
            assert_same_bits(y, oracle.dropout(x, P, SEED))


def test_operator_of_complex_numbers():
    x = leaf(torch.complex(integers(40), -integers(40)))
    y = operator(x, HALF, tensor(SEED))
    assert torch.equal(y, x * factors(x.real))
    assert torch.equal(gradient(y, x), factors(x.real).to(y.dtype))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: operator(values(4), 1.5, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: operator(values(4), -0.1, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: operator(values(4), float("nan"), tensor(1)), RuntimeError, "dropout probability has to be"),
        (lambda: operator(values(4), P, torch.tensor(1.0)), TypeError, r"one element, but got torch.float32 of"),
        (lambda: operator(values(4), P, torch.tensor(1).int()), TypeError, r"one element, but got torch.int32 of"),
        (lambda: operator(values(4), P, torch.tensor([1, 2])), TypeError, r"torch.int64 of shape \(2,\)"),
        (lambda: mask_operator([4], 1.5, tensor(1)), ValueError, "dropout probability has to be between 0 and 1"),
        (lambda: mask_operator([4], P, torch.tensor(1.0)), TypeError, r"one element, but got torch.float32 of"),
        (lambda: mask_operator([4], P, torch.tensor([1, 2])), TypeError, r"torch.int64 of shape \(2,\)"),
        (lambda: mask_operator([4], P, tensor(1), 0, -1), ValueError, "start has to be at least 0"),
        (lambda: mask_operator([2, 2], P, tensor(1), 0, 2**63 - 3), ValueError, "start has to be at least 0"),
    ],
)
def test_operators_check_their_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_mask_operator_at_the_end_of_the_stream():
    wanted = dropout_mask(4, P, seed=3, start=2**63 - 4)
    assert torch.equal(mask_operator([2, 2], P, tensor(3), 0, 2**63 - 4), wanted.reshape(2, 2))


# Derivatives of the operator. A level of torch.func that is passed over gives zeros, not an error.


def fixed(x: torch.Tensor) -> torch.Tensor:
    return operator(x, HALF, tensor(SEED))


def loss_of(function: Function) -> Function:
    return lambda x: (function(x).sin() ** 3).sum()


def jvp(function: Function) -> Function:
    """Return a function's derivative along its own argument."""
    return lambda x: torch.func.jvp(function, (x,), (x + 1,))[1]


def vjp(function: Function) -> Function:
    return lambda x: torch.func.vjp(function, x)[1](function(x) + 1)[0]


def rows(function: Function) -> Function:
    """Return a function that is mapped over three rows, each of x's strides."""
    return lambda x: torch.vmap(lambda row, k: k * function(row))(x.expand(3, *x.shape), torch.arange(1.0, 4.0))


grad, jacrev, jacfwd, hessian = torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.hessian
TRANSFORMS: dict[str, Function] = {  # of a dropout -> of a tensor
    "grad": lambda d: grad(loss_of(d)),
    "vjp": vjp,
    "jvp": jvp,
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "hessian": lambda d: hessian(loss_of(d)),
    "rows": rows,
    "grad of grad": lambda d: grad(lambda x: (grad(loss_of(d))(x) ** 2).sum()),
    "grad of jvp": lambda d: grad(lambda x: jvp(loss_of(d))(x)),
    "jvp of grad": lambda d: jvp(grad(loss_of(d))),
    "jvp of jvp": lambda d: jvp(jvp(loss_of(d))),
    "jvp of vjp": lambda d: jvp(vjp(d)),
    "jacrev of jacrev": lambda d: jacrev(jacrev(loss_of(d))),
    "jacfwd of jacfwd": lambda d: jacfwd(jacfwd(loss_of(d))),
    "jacrev of jacfwd": lambda d: jacrev(jacfwd(loss_of(d))),
    "rows of grad": lambda d: rows(grad(loss_of(d))),
    "grad of rows": lambda d: grad(lambda x: (rows(d)(x) ** 2).sum()),
    "jvp of rows": lambda d: jvp(rows(d)),
    "rows of rows": lambda d: rows(rows(d)),
    "three levels": lambda d: jvp(jvp(grad(loss_of(d)))),
    "functionalize": lambda d: torch.func.functionalize(grad(loss_of(d))),
    "linearize": lambda d: lambda x: torch.func.linearize(d, x)[1](x + 1),
}
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


# Compiled: what it gives


@ALL_LAYOUTS
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


def test_double_backward():
    x = leaf(integers(6, 40))
    y = compiled(lambda x: dropout(x, HALF, seed=SEED) ** 3, "eager")(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    d = factors(x)
    assert_same_bits(first, 3 * d**3 * x**2)
    assert_same_bits(gradient(first, x), 6 * d**3 * x)
    for call in (native, functools.partial(dropout, seed=SEED)):  # AOTAutograd knows none
        x = leaf(integers(6, 40))
        y = compiled(lambda x, call=call: call(x, HALF) ** 3)(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        with pytest.raises(RuntimeError):
            gradient(first, x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_tangents(backend):
    def push(x: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(dropout(forward_ad.make_dual(x, tangent) * 2, HALF, seed=SEED)).tangent

    x = integers(6, 40)
    assert_same_bits(compiled(push, backend)(x, x + 1), (x + 1) * 2 * factors(x))


def test_compiled_backward_of_all_kinds():
    def step(x: torch.Tensor) -> torch.Tensor:
        y = dropout(x, HALF)
        y.sum().backward()
        return y.detach()

    with torch._dynamo.config.patch(compiled_autograd=True):
        for run in (step, torch.compile(step, backend="aot_eager")):
            x = leaf(integers(300))
            y = torch.compile(run, backend="aot_eager")(x)
            assert_same_bits(x.grad, y / x)
            assert set(x.grad.tolist()) == {0.0, 2.0}


# Compiled: how often


@pytest.mark.parametrize("name", ["seed", "offset"])
def test_keys_change_without_a_new_graph(name):
    def run(x: torch.Tensor, number: int) -> torch.Tensor:
        return dropout(x, P, **({"seed": number} if name == "seed" else {"seed": SEED, "offset": number}))

    call, counter = counted(run)
    x = leaf(values(6, 40))
    for number in SEEDS + LARGE_SEEDS:
        assert_dropout(call(x, number), x, *([number] if name == "seed" else [SEED, number]))
    assert counter.frame_count <= 4  # at first as a constant; then for all; for those that a signed int cannot hold; 0


def test_seeds_may_be_tensors():
    call, counter = counted(lambda x, seed: dropout(x, P, seed=seed, offset=1))
    x = leaf(values(6, 40))
    for seed in SEEDS + LARGE_SEEDS:
        assert_dropout(call(x, tensor(seed)), x, seed, 1)
    assert counter.frame_count == 1


def test_a_seed_that_changes_after_its_use_is_never_misread():
    # A step that is counted in a buffer, say. Torch gives wrong gradients even where such a number is cloned first.
    def count_before(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        step.add_(1)
        return dropout(x, P, seed=step)

    def count_after(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        y = dropout(x, P, seed=step)
        step.add_(1)
        return y

    x, step = leaf(values(300)), torch.tensor(4)
    call, counter = counted(count_before)
    for number in (5, 6, 7):
        assert_dropout(call(x, step), x, number)
    assert counter.frame_count == 1
    y = compiled(lambda x, step: dropout(x, P, seed=step))(x, step)
    step.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(y, x)
    assert_same_bits(compiled(count_after)(x.detach(), step), oracle.dropout(x, P, 8))
    with pytest.raises(Exception, match="modified by an inplace operation"):
        compiled(count_after)(x, step)


SIZES = [(4, 7), (5, 9), (40, 60), (7, 4), (16, 5)]


@pytest.mark.parametrize(
    "make",
    [values, lambda a, b: values(b, a).t(), lambda a, b: values(a, 2 * b)[:, ::2], lambda a, b: values(a, 3, b).mT],
    ids=["contiguous", "transposed", "sliced", "inner"],
)
def test_one_graph_for_all_sizes(make):
    call, counter = counted(lambda x: dropout(x, P, seed=SEED), dynamic=True)
    counts = set()
    for size in SIZES:
        x = leaf(make(*size))
        assert_dropout(call(x), x)
        counts.add(counter.frame_count)
    assert len(counts) == 1


@pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler")
def test_one_graph_for_all_sizes_by_inductor():
    call, counter = counted(lambda x: dropout(x.t(), P, seed=SEED), "inductor", dynamic=True)
    counts = set()
    for size in SIZES:
        x = leaf(values(*size).t())
        y = call(x)
        assert_same_bits(y.t(), oracle.dropout(x.t(), P, SEED).t())
        assert_same_bits(gradient(y, x), oracle.dropout(torch.ones(size), P, SEED).t())
        counts.add(counter.frame_count)
    assert len(counts) == 1


# Fresh seeds


def three(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return dropout(x, HALF), dropout(x, HALF), dropout(x, HALF)


@BACKENDS
def test_calls_of_one_graph_share_no_mask(backend):
    layer = fastdrop.Dropout(HALF)
    call = compiled(lambda x: (*three(x), layer(x), layer(x)), backend)
    x = leaf(integers(300))
    masks = []
    for results in (call(x), call(x)):
        for y in reversed(results):
            got = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
            assert_same_bits(got, y / x)
            assert set(got.tolist()) == {0.0, 2.0}
        masks += [y != 0 for y in results]
    sigma = (300 * 0.25) ** 0.5
    for one, other in itertools.combinations(masks, 2):
        assert abs((one != other).sum() - 150) < 5 * sigma


@BACKENDS
def test_compiled_masks_are_those_of_eager_code(backend):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *three(x), dropout(x * 2, P), fastdrop.Dropout(P)(x.t())

    x = leaf(integers(20, 15))
    wanted = seeded(run, x)
    state, sums = torch.get_rng_state(), torch.autograd.grad([y.sum() for y in wanted], x)
    got = seeded(compiled(run, backend), x)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(got, wanted, strict=True):
        assert_same_bits(one, other)
    torch.testing.assert_close(torch.autograd.grad([y.sum() for y in got], x), sums, rtol=1e-14, atol=0)


def test_equal_keys_share_a_mask():
    y = compiled(lambda x: (dropout(x, P, seed=SEED), dropout(x, P, seed=SEED)))(values(300))
    assert_same_bits(*y)


# What is kept for the backward


@BACKENDS
def test_nothing_is_kept_but_the_seed(backend):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return dropout(x, P), dropout(x.t(), P), dropout(x[:, ::2], P, seed=SEED)

    x = leaf(values(6, 40))
    for dynamic in (None, True):
        y, *_ = compiled(run, backend, dynamic=dynamic)(x)
        saved = y.grad_fn.saved_tensors
        assert saved and all(one.numel() == 1 and one.dtype is torch.int64 for one in saved)
        torch._dynamo.reset()
    by_native = compiled(lambda x: native(x, P))(x).grad_fn.saved_tensors
    assert [one.shape for one in by_native] == [x.shape]  # so this sees what is kept


# Exported and traced


class Net(nn.Module):
    """Two dropouts."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = fastdrop.Dropout(HALF)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x) + 10 * self.drop(x * 2)


class Keyed(nn.Module):
    """A dropout with a key."""

    def forward(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return dropout(x, P, seed=seed, offset=2), dropout_mask(x.shape, P, seed=seed, offset=2)


STRICT = pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])


def saved_and_loaded(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own, in save
@STRICT
def test_export(strict):
    x, model = leaf(integers(20, 15)), Net()
    program = torch.export.export(model, (x,), strict=strict)
    wanted = seeded(model, x)
    assert set((wanted / x).unique().tolist()) == {0.0, 2.0, 40.0, 42.0}
    for one in (program, program.run_decompositions(), saved_and_loaded(program)):
        assert calls(one.graph_module) == 2
        run = one.module()
        y = seeded(run, x)
        assert_same_bits(y, wanted)
        assert_same_bits(gradient(y, x), y / x)
        assert not torch.equal(run(x), y)


@STRICT
def test_export_with_keys_and_sizes_that_change(strict):
    auto = torch.export.Dim.AUTO
    shapes = {"x": (auto, auto), "seed": None}
    example = values(6, 40), torch.tensor(1)
    run = torch.export.export(Keyed(), example, strict=strict, dynamic_shapes=shapes).module()
    for seed, size in zip([*SEEDS, *LARGE_SEEDS], itertools.cycle(SIZES), strict=False):
        x = leaf(values(*size))
        y, mask = run(x, tensor(seed))
        assert_dropout(y, x, seed, 2)
        assert torch.equal(mask, oracle.keep(x, P, seed, 2))


@STRICT
def test_export_in_eval_mode(strict):
    program = torch.export.export(Net().eval(), (values(4),), strict=strict)
    assert calls(program.graph_module) == 0


MODES = pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])


@MODES
def test_make_fx(mode):
    x = integers(20, 15)

    def run(x: torch.Tensor) -> torch.Tensor:
        return dropout(x, HALF) + 10 * dropout(x * 2, HALF, inplace=True)

    graph = make_fx(run, tracing_mode=mode)(x)
    assert calls(graph) == 2
    assert_same_bits(seeded(graph, x), seeded(run, x))
    assert set((graph(x) / x).unique().tolist()) == {0.0, 2.0, 40.0, 42.0}
    assert not torch.equal(graph(x), graph(x))


@MODES
def test_make_fx_with_keys(mode):
    graph = make_fx(lambda x, seed: Keyed()(x, seed), tracing_mode=mode)(values(20, 15), torch.tensor(1))
    for seed in (1, 2, SEED):
        for x in [values(20, 15)] + [values(3, 8)] * (mode == "symbolic"):
            y, mask = graph(x, tensor(seed))
            assert_same_bits(y, oracle.dropout(x, P, seed, 2))
            assert torch.equal(mask, oracle.keep(x, P, seed, 2))


@MODES
def test_make_fx_of_a_backward(mode):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = leaf(x)
        y = dropout(x.t(), HALF)
        return y, gradient(y, x, x.t().contiguous())

    x = integers(20, 15)
    graph = make_fx(run, tracing_mode=mode)(x)
    assert calls(graph) == 2
    for _ in range(2):
        y, got = graph(x)
        assert_same_bits(got, y.t())


@ALL_LAYOUTS
def test_fake_tensors_stay_fake(make):
    real, seed, mode = leaf(make(torch.float32)), tensor(3), FakeTensorMode()
    wanted, x = dropout(real, P), mode.from_tensor(real)
    for key in ({}, {"seed": 3}, {"seed": seed}, {"seed": mode.from_tensor(seed)}):
        with mode:
            y = dropout(x, P, **key)
            got = gradient(y, x)
            in_place = dropout(x.clone(), P, inplace=True, **key)
        for one in (y, got, in_place):
            assert isinstance(one, FakeTensor)
            assert (one.shape, one.dtype) == (wanted.shape, wanted.dtype)
        assert meaningful_strides(y) == meaningful_strides(wanted)


def test_masks_of_fake_tensors_are_fake():
    seed, mode = tensor(3), FakeTensorMode()
    for key in (3, seed, mode.from_tensor(seed)):
        with mode:
            mask = dropout_mask((3, 4), P, seed=key)
        assert isinstance(mask, FakeTensor)
        assert (mask.shape, mask.dtype) == ((3, 4), torch.bool)


# Masks


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_masks(dynamic):
    def run(x: torch.Tensor, seed: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        one = dropout_mask(x.shape, P, seed=seed, offset=2, start=start)
        return one, dropout_mask(x.shape[0], P, seed=3)

    call, counter = counted(run, dynamic=dynamic)
    counts = []
    for (rows, columns), seed in zip(SIZES, SEEDS[:4] + LARGE_SEEDS[:1], strict=True):
        start = 5 * seed % 10**6
        got, other = call(values(rows, columns), seed, start)
        wanted = mask_reference.keep_mask(start + np.arange(rows * columns), P, seed, 2)
        assert torch.equal(got, torch.from_numpy(wanted).reshape(rows, columns))
        assert torch.equal(other, oracle.keep(values(rows), P, 3))
        counts.append(counter.frame_count)
    assert counts[1] == counts[-2]  # the first may be with constants, the last has a seed that no signed int holds


@pytest.mark.parametrize("dynamic", [None, True])
def test_p_may_change(dynamic):
    call = compiled(lambda x, p: (dropout(x, p, seed=3), dropout_mask(x.shape, p, seed=3)), dynamic=dynamic)
    for p in (0.1, 0.25, 0.9):
        y, mask = call(values(300), p)
        assert_same_bits(y, oracle.dropout(values(300), p, 3))
        assert torch.equal(mask, oracle.keep(values(300), p, 3))


@pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler")
def test_masks_by_inductor():
    call = compiled(lambda x, seed: (dropout_mask(x.shape, P, seed=seed), dropout_mask(9, P, seed=3)), "inductor")
    for seed in (1, SEED):
        one, other = call(values(6, 40), tensor(seed))
        assert torch.equal(one, oracle.keep(values(6, 40), P, seed))
        assert torch.equal(other, oracle.keep(values(9), P, 3))


# Checkpoints


def layer(x: torch.Tensor) -> torch.Tensor:
    return dropout(dropout(x, HALF) ** 2, HALF) * dropout(x, HALF)


@BACKENDS
def test_checkpoint_inside_compiled_code(backend):
    def run(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(layer, x * 2, use_reentrant=False)

    x = leaf(integers(300))
    wanted = seeded(lambda x: layer(x * 2), x)
    expected = gradient(wanted, x)
    y = seeded(compiled(run, backend), x)
    assert y.grad_fn.saved_tensors[0].numel() == 300  # x, from which all is computed again
    assert not any(one.is_floating_point() for one in y.grad_fn.saved_tensors[1:])
    torch.manual_seed(99)
    got = gradient(y, x)
    assert_same_bits(y, wanted)
    assert_same_bits(got, expected)
    assert 0 < got.count_nonzero() < 300


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint_of_compiled_code(use_reentrant):
    x = leaf(integers(300))
    wanted = gradient(seeded(layer, x), x)
    y = seeded(lambda x: checkpoint(compiled(layer), x, use_reentrant=use_reentrant), x)
    torch.manual_seed(99)
    y.sum().backward()
    assert_same_bits(x.grad, wanted)
    assert 0 < wanted.count_nonzero() < 300


# torch.func in compiled code


IN_GRAPHS = ["grad", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "rows", "grad of grad", "rows of grad", "jvp of rows"]


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_transforms_in_compiled_code(name):
    x = integers(3, 4).t()
    d = factors(x)
    wanted = TRANSFORMS[name](lambda x: x * d)(x)
    got = compiled(TRANSFORMS[name](lambda x: dropout(x, HALF, seed=SEED)))(x)
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_in_compiled_code(randomness):
    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda row: dropout(row, HALF), randomness=randomness)(x)

    x = leaf(integers(4, 300))
    wanted = seeded(run, x)
    call = compiled(run)
    y = seeded(call, x)
    assert_same_bits(y, wanted)
    assert_same_bits(gradient(y, x), y / x)
    masks = (call(x) / x).detach()
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(masks, wanted / x)
    for one, other in itertools.combinations(masks, 2):
        assert torch.equal(one, other) == (randomness == "same")


def test_vmap_over_seeds_in_compiled_code():
    x, seeds = integers(4, 300), torch.tensor([5, 0, 2**62, -1])
    got = compiled(torch.vmap(lambda row, seed: dropout(row, P, seed=seed)))(x, seeds)
    by_row = [oracle.dropout(row, P, seed % 2**64) for row, seed in zip(x, seeds.tolist(), strict=True)]
    assert_same_bits(got, torch.stack(by_row))


# Modes around compiled code


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_without_gradients(off):
    call = compiled(lambda x: dropout(x, P, seed=SEED))
    x = leaf(values(6, 40))
    assert_dropout(call(x), x)
    with off():
        y = call(x)
        assert not y.requires_grad and y.is_inference() == (off is torch.inference_mode)
        assert_same_bits(y, oracle.dropout(x, P, SEED))


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


def test_error_of_native_is_ours_under_vmap_in_compiled_code():
    def run(call: Function) -> Function:
        return compiled(lambda x: torch.vmap(lambda row: call(row, HALF))(x))

    wanted = error_of(lambda: run(native)(values(3, 4)))
    got = error_of(lambda: run(dropout)(values(3, 4)))
    assert wanted is not None and got is not None
    assert "randomness" in wanted[1] and "randomness" in got[1]
