"""Torch's dropout operators: calls of them, what each has to return by the published formulas, and whose they are."""

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
from exotic_tensors import elements, kind
from torch.nn import functional as F

P = 0.3
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934
INFINITIES = torch.full((64,), float("inf"))
OPERATORS = [
    *("dropout", "dropout_", "native_dropout", "alpha_dropout", "alpha_dropout_"),
    *("feature_dropout", "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_"),
]
every_operator = pytest.mark.parametrize("name", OPERATORS)

Call = Callable[..., Any]


def call(name: str, x: torch.Tensor, p: Any = P, train: bool | None = True) -> Any:
    """Call one of torch's operators, past its Python functions."""
    return getattr(torch.ops.aten, name).default(x, p, train)


def dropped(name: str, x: torch.Tensor, p: Any = P) -> torch.Tensor:
    y = call(name, x, p)
    return y[0] if name == "native_dropout" else y


def seeds(count: int = 1) -> list[int]:
    """Seed torch, and return the seeds that will be drawn."""
    torch.manual_seed(0)
    drawn = [int(torch.randint(2**63 - 1, ())) for _ in range(count)]
    torch.manual_seed(0)
    return drawn


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def reference(name: str, x: torch.Tensor, seed: int, p: float = P) -> torch.Tensor:
    """Return the dropout of x by the published formulas, for autograd too."""
    counted = torch.empty(*x.shape[:2], *[1] * (x.dim() - 2)) if "feature" in name else x
    d = torch.where(oracle.keep(counted, p, seed), 1.0, 0.0).to(x.dtype)
    if "alpha" not in name:
        return x * d / (1 - p)
    q, low = 1 - p, -SELU_ALPHA * SELU_SCALE  # the names of Klambauer et al.: Self-normalizing neural networks
    a = (q + low**2 * q * (1 - q)) ** -0.5
    return a * (x * d + low * (1 - d)) - a * (1 - q) * low


def assert_near(y: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check that y is the float64 `wanted` within some roundings."""
    tolerance = 16 * torch.finfo(y.dtype).eps
    torch.testing.assert_close(y.double(), wanted, rtol=tolerance, atol=tolerance)


def drops_as_ours(function: Call, x: torch.Tensor = INFINITIES) -> bool:
    """Whether a dropped infinity is 0, as with ours, or NaN, as with native, which multiplies."""
    y = function(x)
    ours, native = bool((y == 0).any()), bool(y.isnan().any())
    assert ours != native
    return ours


def is_ours() -> bool:
    return drops_as_ours(lambda x: F.dropout(x, 0.5))


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "matrix, transposed": lambda x: x.flatten(1).t(),
    "sliced": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :, :1].expand(x.shape),
}


def outcome(function: Call) -> Any:
    """All there is to tell of a function's result, or its error."""
    torch.manual_seed(0)
    try:
        results = function()
    except Exception as error:  # whatever it is: it is compared with native's
        return type(error).__name__, str(error).split("\n")[0]  # further lines list where kernels were registered
    return [
        (kind(y), None if y.is_nested or y.layout is not torch.strided else y.stride(), y.grad_fn is None, elements(y))
        if isinstance(y, torch.Tensor)
        else y
        for y in torch.utils._pytree.tree_leaves(results)
    ]


def layout(y: torch.Tensor) -> tuple[Any, ...]:
    return y.shape, y.dtype, y.layout, y.stride(), y.requires_grad
