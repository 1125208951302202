"""Gradients, and gradients of gradients, against the oracle."""

import oracle
import pytest
import torch
from exact import HARD_P, SEED, P, factors, fixed, integers
from oracle import FLOATS, assert_same_bits

from fastdrop.functional import dropout

native = torch.nn.functional.dropout


@pytest.mark.parametrize("p", [HARD_P, 0.9, 1.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_is_the_gradients_dropout(dtype, p):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    gradient = torch.randn(3000, generator=torch.Generator().manual_seed(2)).to(dtype)
    y = dropout(x, p, seed=SEED, offset=5)
    (got,) = torch.autograd.grad(y, x, gradient)
    assert_same_bits(y, oracle.dropout(x, p, SEED, 5))
    assert_same_bits(got, oracle.dropout(gradient, p, SEED, 5))


@pytest.mark.parametrize("key", [{}, {"generator": torch.Generator().manual_seed(8)}], ids=["global", "own"])
@pytest.mark.parametrize("inplace", [False, True])
def test_backward_has_the_forwards_mask_whatever_is_drawn_between(inplace, key):
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    first = dropout(x * 1, P, inplace=inplace, **key)
    second = dropout(x * 1, P, inplace=inplace, **key)
    torch.manual_seed(0)
    dropout(torch.ones(10), P, **key)
    assert not torch.equal(first, second)
    for y in (second, first):
        (got,) = torch.autograd.grad(y, x, torch.ones(1000, dtype=torch.float64))
        assert_same_bits(got, y)


def test_backward_twice():
    x = integers(500).requires_grad_()
    y = dropout(x, P)
    gradients = [torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for _ in range(2)]
    assert_same_bits(gradients[0], gradients[1])
    assert_same_bits(gradients[0], y / x)


@pytest.mark.parametrize("inplace", [False, True])
def test_nothing_is_saved(inplace):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        x = torch.ones(40, 50, requires_grad=True) * 1
        saved.clear()
        native(x, P)
        assert saved  # so the hook works
        saved.clear()
        y = [dropout(x, P), dropout(x.t(), P), dropout(x[:, ::2], P), dropout(x, P, inplace=inplace)]
        assert saved == []
    sum(one.sum() for one in y).backward()


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("p", [HARD_P, 1.0])
def test_gradcheck(p, inplace):
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def call(x):
        return dropout(x.t() * 2, p, inplace=inplace, seed=SEED)

    assert torch.autograd.gradcheck(call, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, x, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("inplace", [False, True])
def test_gradcheck_of_batched_gradients(inplace):
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def call(x):
        return dropout(x.t() * 2, HARD_P, inplace=inplace, seed=SEED)

    batched = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(call, x, **batched)
    assert torch.autograd.gradgradcheck(call, x, check_batched_grad=True)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_double_backward_through_a_nonlinear_function(make):
    x = make(integers(6, 40)).detach().requires_grad_()
    (first,) = torch.autograd.grad((fixed(x) ** 3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    d = factors(x)
    assert_same_bits(first, 3 * d**3 * x**2)
    assert_same_bits(second, 36 * d**6 * x**3)
    assert_same_bits(third, 108 * d**6 * x**2)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_batched_gradients(make):
    x = make(integers(4, 6)).detach().requires_grad_()
    rows = torch.arange(1.0, 1.0 + 3 * x.numel(), dtype=torch.float64).reshape(3, *x.shape)
    (got,) = torch.autograd.grad(fixed(x), x, rows, is_grads_batched=True)
    for one, row in zip(got, rows, strict=True):
        assert_same_bits(one, row * factors(x))


@pytest.mark.parametrize(
    ("strategy", "vectorize"), [("reverse-mode", False), ("reverse-mode", True), ("forward-mode", True)]
)
def test_autograd_functional(strategy, vectorize):
    x = integers(12)
    jacobian = torch.autograd.functional.jacobian(fixed, x, vectorize=vectorize, strategy=strategy)
    assert_same_bits(jacobian, factors(x).diag())
    hessian = torch.autograd.functional.hessian(
        lambda x: (fixed(x) ** 3).sum(), x, vectorize=vectorize, outer_jacobian_strategy=strategy
    )
    assert torch.equal(hessian, (6 * factors(x) ** 3 * x).diag())


@pytest.mark.parametrize(
    "wrap", [lambda g: g.as_subclass(Subclass), lambda g: torch.nn.Parameter(g)], ids=["subclass", "parameter"]
)
def test_gradients_of_other_classes(wrap):
    x = integers(40).requires_grad_()
    (got,) = torch.autograd.grad(fixed(x), x, wrap(integers(40)))
    assert torch.equal(got, integers(40) * factors(x))


class Subclass(torch.Tensor):
    """A subclass that does nothing."""


def test_gradient_through_a_hook_and_accumulation():
    x = integers(40).requires_grad_()
    y = fixed(x)
    y.register_hook(lambda g: 10 * g)
    y.sum().backward()
    fixed(x).sum().backward()
    assert_same_bits(x.grad, 11 * factors(x))


def test_gradients_in_several_threads():
    # Backward of a CPU graph runs in the thread that asks for it; masks must not depend on which.
    x = integers(3000).requires_grad_()
    y = dropout(x, P)
    with torch.autograd.set_multithreading_enabled(False):
        (alone,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (together,) = torch.autograd.grad(y.sum(), x)
    assert_same_bits(alone, y / x)
    assert_same_bits(together, alone)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_traced_backward_of_an_untraced_forward(inplace):
    x = torch.ones(500, requires_grad=True)
    y = dropout(x * 1, P, inplace=inplace, seed=SEED)

    def backward(gradient):
        return torch.autograd.grad(y, x, gradient, retain_graph=True)[0]

    graph = torch.fx.experimental.proxy_tensor.make_fx(backward)(torch.ones(500))
    assert_same_bits(graph(3 * torch.ones(500)), 3 * factors(x))
