"""What dropout has to return for any tensor, from the mask stream's specification and torch's own arithmetic."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mask_reference
import numpy as np
import torch

COMPUTE = {  # dtype -> dtype that dropout computes in
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
FLOATS = tuple(COMPUTE)
SELU_LIMIT = 1.7580993408473766  # minus SELU's lower limit: alpha' of Klambauer et al.
SAME_SIZE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_dense(x: torch.Tensor) -> bool:
    """Return whether x's elements fill a stretch of memory, each place once, in whatever order."""
    filled = 1
    for stride, size in sorted((stride, size) for size, stride in zip(x.shape, x.stride(), strict=True) if size != 1):
        if stride != filled:
            return False
        filled *= size
    return True


def stream_index(x: torch.Tensor) -> torch.Tensor:
    """Return each element's number in the stream: its place in memory where x is dense, else counted row by row."""
    if not is_dense(x):
        return torch.arange(x.numel()).reshape(x.shape)
    index = torch.zeros(x.shape, dtype=torch.int64)
    for dim, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        index += (torch.arange(size) * stride).reshape([-1 if d == dim else 1 for d in range(x.dim())])
    return index


def keep(x: torch.Tensor, p: float, seed: int, offset: int = 0) -> torch.Tensor:
    """Return the mask, True where the element is kept, of a tensor with x's shape and strides."""
    kept = mask_reference.keep_mask(stream_index(x).numpy().ravel(), p, seed, offset)
    return torch.from_numpy(kept).reshape(x.shape)


def scale(p: float, dtype: torch.dtype) -> float:
    """Return 1/(1-p) in the type that `dtype` is computed in."""
    compute = np.float64 if dtype == torch.float64 else np.float32
    return float(compute(1) / compute(1 - p)) if p < 1 else 0.0


def apply(x: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    """Return x / (1 - p), rounded once, where it is kept, and +0 elsewhere."""
    scaled = (x.detach().to(COMPUTE[x.dtype]) * scale(p, x.dtype)).to(x.dtype)
    return torch.where(kept, scaled, torch.zeros((), dtype=x.dtype))


def alpha_factors(p: float, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return alpha dropout's scale, shift and fill, in the type that `dtype` is computed in."""
    compute = np.float64 if dtype == torch.float64 else np.float32
    a = 1 / math.sqrt((SELU_LIMIT * SELU_LIMIT * p + 1) * (1 - p)) if p < 1 else 0.0
    scale, shift, fill = (float(compute(factor)) for factor in (a, a * SELU_LIMIT * p, a * SELU_LIMIT * (p - 1)))
    return scale, shift, fill


def apply_alpha(x: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    """Return alpha dropout of x: where it is kept, scaled and shifted exactly, then rounded as the kernels do once."""
    scale, shift, fill = alpha_factors(p, x.dtype)
    exact = [Fraction(value) * Fraction(scale) + Fraction(shift) for value in x.detach().flatten().tolist()]
    moved = torch.tensor([float(value) for value in exact], dtype=torch.float64).to(COMPUTE[x.dtype]).to(x.dtype)
    return torch.where(kept, moved.reshape(x.shape), torch.tensor(fill, dtype=COMPUTE[x.dtype]).to(x.dtype))


def dropout(x: torch.Tensor, p: float, seed: int, offset: int = 0) -> torch.Tensor:
    """Return the dropout of x; its strides are not the oracle's business."""
    return apply(x, keep(x, p, seed, offset), p)


def bits(x: torch.Tensor) -> torch.Tensor:
    """Return x's elements as integers, so that -0 differs from +0, with every NaN the same."""
    x = x.detach().resolve_neg().contiguous()
    return torch.where(x.isnan(), -1, x.view(SAME_SIZE[x.itemsize]))


def assert_same_bits(actual: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check shape, dtype and every bit, of a NaN only that it is one."""
    assert actual.shape == wanted.shape
    assert actual.dtype is wanted.dtype
    differ = bits(actual) != bits(wanted)
    assert not differ.any(), f"elements {differ.nonzero()[:4].tolist()}: {actual[differ][:4]}, not {wanted[differ][:4]}"


def meaningful_strides(x: torch.Tensor) -> list[int]:
    """Return x's strides without those of size-1 dimensions, which no element's address depends on."""
    return [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size != 1]


def error_of(call: Callable[[], Any]) -> tuple[str, str] | None:
    """Return the type and text of the exception that a call raises, or None."""
    try:
        call()
    except Exception as error:  # whatever it is: it is compared with native's
        return type(error).__name__, str(error)
    return None
