"""Torch's own dropout operators by our kernels: what `install` puts into torch's dispatcher.

Each of `OPERATORS` computes one for a plain tensor in training; `override` makes of it what the dispatcher calls, which
hands every other call to torch's own kernel as it came.
"""

from collections.abc import Callable, Container
from typing import Any, Final

import torch
from torch._C import _are_functorch_transforms_active, _get_tracing_state
from torch.utils._python_dispatch import _disable_current_modes

from fastdrop import _autograd, _backend, _operators, _seeds
from fastdrop._backend import FLOATS, PLAIN, has_kernel
from fastdrop._composite import is_watched
from fastdrop._layout import Key, order_of, run
from fastdrop._native import is_graphed
from fastdrop._opaque import opaque

ALPHA: Final = 1.7580993408473766  # torch's constant: minus the value that SELU tends to for low inputs

BERNOULLI: Final = "bernoulli_.float"
BERNOULLI_DTYPES: Final = {*FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
BERNOULLI_FROM: Final = 2048  # elements, below which torch's own is as fast

Apply = Callable[[torch.Tensor, Key], torch.Tensor]  # dropout: by a kernel, or by operators that a mode can watch
Operator = Callable[[torch.Tensor, Key, Apply], Any]
Kernel = Callable[..., Any]  # takes the arguments of torch's operator


def _fresh_key(x: torch.Tensor, p: float) -> Key:
    seed = _seeds.draw() if x.is_cpu else _seeds.of(x, None, None)
    return p, seed, 0, None if x.is_contiguous() else order_of(x)


def _mask_of(x: torch.Tensor, key: Key) -> torch.Tensor:
    p, seed, offset, order = key
    return _backend.mask(x.shape, p, seed, offset, strides=order, device=x.device)


def _mask_of_channels(x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a mask of shape (N, C, 1, ...)."""
    p, seed, offset, _ = key
    shape = *x.shape[:2], *[1] * (x.dim() - 2)
    return _backend.mask(shape, p, seed, offset, device=x.device).to(x.dtype)


def _alpha_scale(p: float) -> float:
    """Return a: with a (x + ALPHA p) where kept and a ALPHA (p - 1) where dropped, mean and variance stay."""
    return float(((ALPHA * ALPHA * p + 1) * (1 - p)) ** -0.5)


def dropout(x: torch.Tensor, key: Key, apply: Apply) -> torch.Tensor:
    """Return the dropout of x."""
    return apply(x, key)


def dropout_(x: torch.Tensor, key: Key, apply: Apply) -> torch.Tensor:
    """Overwrite x with its dropout."""
    return _autograd.dropout_(x, key) if apply is _autograd.recorded_dropout else x.copy_(apply(x, key))


def native_dropout(x: torch.Tensor, key: Key, apply: Apply) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the dropout of x, and its mask, which torch's own backward takes: here autograd is above."""
    return run("dropout", x, key), _mask_of(x, key)


def alpha_dropout(x: torch.Tensor, key: Key, apply: Apply) -> torch.Tensor:
    """Return the alpha dropout of x (Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017).

    It is a (1-p) dropout(x + ALPHA) - a (1-p) ALPHA: what is dropped there is 0 here.
    """
    scale = _alpha_scale(key[0]) * (1 - key[0])
    shifted = x.to(torch.promote_types(x.dtype, torch.float32)) + ALPHA
    return dropout_(shifted, key, apply).mul_(scale).sub_(scale * ALPHA).to(x.dtype)


def feature_dropout(x: torch.Tensor, key: Key, apply: Apply) -> Any:
    """Return the dropout of x by whole channels; NotImplemented where there are none, for which torch has an error."""
    return x * _mask_of_channels(x, key).div_(1 - key[0]) if x.dim() > 1 else NotImplemented


def feature_alpha_dropout(x: torch.Tensor, key: Key, apply: Apply) -> Any:
    """Return the alpha dropout of x by whole channels; NotImplemented where there are none."""
    if x.dim() < 2:
        return NotImplemented
    a, keep = _alpha_scale(key[0]), _mask_of_channels(x, key)
    return (x * (keep * a)).add_(keep * (a * ALPHA) + a * ALPHA * (key[0] - 1))


def in_place(operator: Operator) -> Operator:
    """Return an operator's in-place form."""

    def ours_(x: torch.Tensor, key: Key, apply: Apply) -> Any:
        y = operator(x, key, apply)
        return y if y is NotImplemented else x.copy_(y)

    return ours_


OPERATORS: Final[dict[str, Operator]] = {
    "dropout": dropout,
    "dropout_": dropout_,
    "native_dropout": native_dropout,
    "alpha_dropout": alpha_dropout,
    "alpha_dropout_": in_place(alpha_dropout),
    "feature_dropout": feature_dropout,
    "feature_dropout_": in_place(feature_dropout),
    "feature_alpha_dropout": feature_alpha_dropout,
    "feature_alpha_dropout_": in_place(feature_alpha_dropout),
}
IN_GRAPHS: Final = {"dropout": False, "dropout_": True}  # what graphs get as our operator, and whether in place


def names(bernoulli: bool) -> frozenset[str]:
    """Return the operators to override, bernoulli_ among them or not."""
    return frozenset(OPERATORS).union([BERNOULLI] if bernoulli else [])


def keys(name: str) -> tuple[str, ...]:
    """Return the dispatch keys to override an operator on."""
    if name == BERNOULLI:  # below autograd, which knows these two; a GPU makes bernoulli_ in one pass anyway
        return ("CPU",)
    if name == "native_dropout":
        return ("CPU", "CUDA")
    return ("AutogradCPU", "CPU", "AutogradCUDA", "CUDA")  # CPU and CUDA: inference mode skips autograd


def override(name: str, native: Kernel, enabled: Container[str]) -> Kernel:
    """Return what the dispatcher is to call for an operator: ours while enabled and where it can, else native."""
    if name == BERNOULLI:
        return _bernoulli_(native, enabled)
    ours = OPERATORS[name]

    @opaque
    def kernel(x: torch.Tensor, p: float, train: bool | None) -> Any:
        if name in enabled and 0.0 < p < 1.0 and train is not False and not _are_functorch_transforms_active():
            y: Any = NotImplemented
            if is_watched():
                y = _watched(name, x, p)
            elif has_kernel(x) and x.numel():
                y = ours(x, _fresh_key(x, p), _autograd.recorded_dropout)
            if y is not NotImplemented:
                return y
        return native(x, p, train)

    return kernel


def _watched(name: str, x: torch.Tensor, p: float) -> Any:
    """Return an operator's result where a dispatch mode or a trace is on, or NotImplemented for torch's own.

    The mask is what it would be without the mode: a checkpoint's second run may be watched where its first was not.
    """
    if is_graphed():
        if name not in IN_GRAPHS or not _operators.takes(x):
            return NotImplemented
        return _operators.dropout(x, p, IN_GRAPHS[name], None, 0, None)
    if _get_tracing_state() is not None or not has_kernel(x) or not x.numel():
        return NotImplemented
    with _disable_current_modes():
        key = _fresh_key(x, p)
    return OPERATORS[name](x, key, _autograd.composite_dropout)


def _bernoulli_(native: Kernel, enabled: Container[str]) -> Kernel:
    """Return bernoulli_: ones where a mask of ours keeps, else zeros."""

    @opaque
    def kernel(x: torch.Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> torch.Tensor:
        is_plain = type(x) in PLAIN and x.dtype in BERNOULLI_DTYPES
        if BERNOULLI in enabled and is_plain and 0.0 < p < 1.0 and x.numel() >= BERNOULLI_FROM:
            return x.copy_(_mask_of(x, (1 - p, _seeds.of(x, None, generator), 0, order_of(x))))
        return native(x, p, generator=generator)  # type: ignore[no-any-return]

    return kernel
