"""dropout_add beside torch's addition and the mask of dropout."""

import mask_reference
import numpy as np
import pytest
import torch

import fastdrop
from fastdrop.functional import dropout, dropout_add, dropout_mask

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
P, SEED = 0.3, 11


def tensors(shape=(7, 301), dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(shape, generator=generator).to(dtype), torch.randn(shape, generator=generator).to(dtype)


def exact(x: torch.Tensor, residual: torch.Tensor, p: float = P, seed: int = SEED) -> torch.Tensor:
    """Return the sum in float64, with the scale as the compute type has it, rounded once."""
    compute = np.float64 if x.dtype is torch.float64 else np.float32
    scale = float(compute(1) / compute(1 - p)) if p < 1 else 0.0
    keep = torch.from_numpy(mask_reference.keep_mask(np.arange(x.numel()), p, seed)).reshape(x.shape)
    return (residual.double() + torch.where(keep, x.double() * scale, 0.0)).to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 127, 128, 129, 1024, 5003])
@pytest.mark.sampled(3)
def test_sum_is_rounded_once(dtype, n):
    x, residual = tensors((n,), dtype)
    y = dropout_add(x, residual, P, seed=SEED)
    wanted = exact(x, residual)
    if dtype is torch.float64:  # the product is not exact in float64 itself
        torch.testing.assert_close(y, wanted, rtol=1e-15, atol=1e-15)
    elif dtype is torch.float32:
        assert torch.equal(y, wanted)
    else:  # rounded to float32 on the way: half a unit more in few elements
        assert (y != wanted).sum() <= n / 100
        torch.testing.assert_close(y, wanted, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_extreme_p(p):
    x, residual = tensors()
    assert torch.equal(dropout_add(x, residual, p, seed=SEED), residual if p else x + residual)


def test_eval_mode_adds():
    x, residual = tensors()
    assert torch.equal(dropout_add(x, residual, P, training=False), x + residual)
    layer = fastdrop.DropoutAdd(P).eval()
    assert torch.equal(layer(x, residual), x + residual)


def test_dropped_nan_and_infinity_leave_the_residual():
    x, residual = tensors((1000,))
    keep = dropout_mask(1000, P, seed=SEED)
    x[~keep] = torch.tensor([torch.nan, torch.inf]).repeat(500)[~keep]
    y = dropout_add(x, residual, P, seed=SEED)
    assert torch.equal(y[~keep], residual[~keep])
    assert not y.isnan().any()


def test_gradients_and_their_derivatives():
    x, residual = (each.requires_grad_() for each in tensors((3, 40), torch.float64))
    assert torch.autograd.gradcheck(lambda x, r: dropout_add(x, r, P, seed=SEED), (x, residual))
    assert torch.autograd.gradgradcheck(lambda x, r: dropout_add(x, r, P, seed=SEED) ** 2, (x, residual))


@pytest.mark.parametrize("of", ["x", "residual", "both"])
def test_gradients_are_those_of_two_operators(of):
    gradients = []
    for function in (dropout_add, lambda x, r, p, seed: dropout(x, p, seed=seed) + r):
        x, residual = tensors()
        leaves = {"x": (x,), "residual": (residual,), "both": (x, residual)}[of]
        for leaf in leaves:
            leaf.requires_grad_()
        (function(x, residual, P, seed=SEED) * torch.arange(301.0)).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, wanted in zip(*gradients, strict=True):
        assert torch.equal(ours, wanted)


def test_nothing_is_kept_for_the_backward():
    kept = []
    x, residual = (each.requires_grad_() for each in tensors())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        dropout_add(x, residual, P, seed=SEED)
    assert kept == []


LAYOUTS = {
    "transposed": lambda x: x.t(),
    "sliced": lambda x: x[:, ::3],
    "expanded": lambda x: x[:1].expand(5, -1),
    "offset": lambda x: x.flatten()[3:],
}


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, which):
    x, residual = tensors()
    view = LAYOUTS[name]
    x, residual = view(x), view(residual)
    if which == 1:
        residual = residual.contiguous()
    elif which == 2:
        x = x.contiguous()
    y = dropout_add(x, residual, P, seed=SEED)
    torch.testing.assert_close(y, dropout(x, P, seed=SEED) + residual)
    assert y.stride() == dropout(x, P, seed=SEED).stride()


def test_fresh_seeds_are_those_of_dropout():
    x, residual = tensors()
    torch.manual_seed(3)
    first, second = dropout_add(x, residual, P), dropout_add(x, residual, P)
    torch.manual_seed(3)
    for y in (first, second):
        torch.testing.assert_close(y, dropout(x, P) + residual)
    layer = fastdrop.DropoutAdd(P, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(layer(x, residual), dropout(x, P, generator=torch.Generator().manual_seed(9)) + residual)


def test_results_do_not_depend_on_threads():
    x, residual = tensors((1 << 20,))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(dropout_add(x, residual, P, seed=SEED))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], exact(x, residual))
    assert all(torch.equal(result, results[0]) for result in results)


def test_large_results_are_stored_non_temporally():
    x, residual = tensors((5 << 20,))
    assert torch.equal(dropout_add(x, residual, P, seed=SEED), exact(x, residual))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_graphs_transforms_and_modes():
    x, residual = tensors((4, 50), torch.float64)
    wanted = dropout(x, P, seed=SEED) + residual

    def f(x, residual):
        return dropout_add(x, residual, P, seed=SEED)

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, residual), wanted)
    torch.testing.assert_close(
        torch.func.vmap(f)(x, residual), torch.stack([dropout(row, P, seed=SEED) for row in x]) + residual
    )
    gradient = torch.func.grad(lambda x: f(x, residual).sum())(x)
    assert torch.equal(gradient, dropout(torch.ones_like(x), P, seed=SEED))
    _, tangent = torch.func.jvp(f, (x, residual), (torch.ones_like(x), torch.ones_like(x)))
    torch.testing.assert_close(tangent, dropout(torch.ones_like(x), P, seed=SEED) + 1)
    traced = torch.jit.trace(f, (x, residual), check_trace=False)
    torch.testing.assert_close(traced(x, residual), wanted)
    assert "DropoutAdd" in repr(fastdrop.DropoutAdd(P))


def test_what_has_no_kernel_is_composed():
    x, residual = tensors((4, 50))
    x, residual = torch.complex(x, x), torch.complex(residual, x)
    torch.testing.assert_close(dropout_add(x, residual, P, seed=SEED), dropout(x, P, seed=SEED) + residual)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (torch.zeros(301), r"but got torch.float32 of shape \(7, 301\) on cpu and .*\(301,\)"),
        (torch.zeros(7, 301, dtype=torch.float64), "but got torch.float32 .* and torch.float64"),
        (torch.zeros(7, 301, device="meta"), "on cpu and .* on meta"),
    ],
)  # fmt: skip
def test_residuals_that_do_not_fit(other, text):
    x, _ = tensors()
    for training in (True, False):
        with pytest.raises(ValueError, match=f"dropout_add needs two tensors of one shape, dtype and device, .*{text}"):
            dropout_add(x, other, P, training)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_and_sparse_tensors():
    x = torch.ones(2, 3)
    for tensor, kind in ((torch.nested.nested_tensor([x, x]), "nested"), (x.to_sparse(), "torch.sparse_coo")):
        with pytest.raises(TypeError, match=f"dropout_add needs strided tensors, but got {kind}"):
            dropout_add(tensor, tensor, P)


def test_arguments_are_checked():
    x, residual = tensors()
    with pytest.raises(TypeError, match="dropout_add needs two tensors, but got float"):
        dropout_add(x, 1.0)
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
        dropout_add(x, residual, 2.0)
    with pytest.raises(ValueError, match="seed and generator exclude each other"):
        dropout_add(x, residual, P, seed=1, generator=torch.Generator())
