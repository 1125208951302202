"""Torch's own dropout operators by our kernels: what `install` puts into torch's dispatcher.

Each of `OPERATORS` computes one for a plain tensor in training; `override` makes of it what the dispatcher calls, which
hands every other call to torch's own kernel as it came.
"""

from collections.abc import Callable, Container
from typing import Any, Final

import torch
from torch._C import _are_functorch_transforms_active

from fastdrop import _autograd, _backend, _operators, _seeds
from fastdrop._backend import has_kernel
from fastdrop._composite import is_watched
from fastdrop._layout import Key, order_of
from fastdrop._native import is_graphed

ALPHA: Final = 1.7580993408473766  # torch's constant: minus the value that SELU tends to for low inputs

BERNOULLI: Final = "bernoulli_.float"
BERNOULLI_FROM: Final = 2048  # elements, below which torch's own is as fast

Operator = Callable[[torch.Tensor, float], Any]
Kernel = Callable[..., Any]  # takes the arguments of torch's operator


def _fresh_key(x: torch.Tensor, p: float) -> Key:
    seed = _seeds.draw() if x.is_cpu else _seeds.of(x, None, None)
    return p, seed, 0, None if x.is_contiguous() else order_of(x)


def _mask_of(x: torch.Tensor, key: Key) -> torch.Tensor:
    p, seed, offset, order = key
    return _backend.mask(x.shape, p, seed, offset, strides=order, device=x.device)


def _mask_of_channels(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return a mask of shape (N, C, 1, ...)."""
    return _backend.mask((*x.shape[:2], *[1] * (x.dim() - 2)), p, _seeds.of(x, None, None), 0, device=x.device)


def _alpha_scale(p: float) -> float:
    """Return a: with a (x + ALPHA p) where kept and a ALPHA (p - 1) where dropped, mean and variance stay."""
    return float(((ALPHA * ALPHA * p + 1) * (1 - p)) ** -0.5)


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the dropout of x."""
    return _autograd.recorded_dropout(x, _fresh_key(x, p))


def dropout_(x: torch.Tensor, p: float) -> torch.Tensor:
    """Overwrite x with its dropout."""
    return _autograd.dropout_(x, _fresh_key(x, p))


def native_dropout(x: torch.Tensor, p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the dropout of x, and its mask."""
    key = _fresh_key(x, p)
    return _autograd.dropout(x, key), _mask_of(x, key)


def alpha_dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the alpha dropout of x (Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017).

    It is a (1-p) dropout(x + ALPHA) - a (1-p) ALPHA: what is dropped there is 0 here.
    """
    scale = _alpha_scale(p) * (1 - p)
    shifted = x.to(torch.promote_types(x.dtype, torch.float32)) + ALPHA
    return _autograd.dropout_(shifted, _fresh_key(shifted, p)).mul_(scale).sub_(scale * ALPHA).to(x.dtype)


def feature_dropout(x: torch.Tensor, p: float) -> Any:
    """Return the dropout of x by whole channels; NotImplemented where there are none, for which torch has an error."""
    if x.dim() < 2:
        return NotImplemented
    return x * _mask_of_channels(x, p).to(x.dtype).div_(1 - p)


def feature_alpha_dropout(x: torch.Tensor, p: float) -> Any:
    """Return the alpha dropout of x by whole channels; NotImplemented where there are none."""
    if x.dim() < 2:
        return NotImplemented
    a = _alpha_scale(p)
    keep = _mask_of_channels(x, p).to(x.dtype)
    shift = keep * (a * ALPHA) + a * ALPHA * (p - 1)
    return shift.addcmul(x, keep * a)


def in_place(ours: Operator) -> Operator:
    """Return an operator's in-place form."""

    def ours_(x: torch.Tensor, p: float) -> Any:
        y = ours(x, p)
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
    if name == BERNOULLI:
        return ("CPU",)  # below autograd, which knows bernoulli_; a GPU makes it in one pass anyway
    return ("AutogradCPU", "CPU", "AutogradCUDA", "CUDA")  # CPU and CUDA: inference mode skips autograd


def override(name: str, native: Kernel, enabled: Container[str]) -> Kernel:
    """Return what the dispatcher is to call for an operator: ours while enabled and where it can, else native."""
    if name == BERNOULLI:
        return _bernoulli_(native, enabled)
    ours = OPERATORS[name]

    def kernel(x: torch.Tensor, p: float, train: bool | None) -> Any:
        if name in enabled and 0.0 < p < 1.0 and train is not False and not _are_functorch_transforms_active():
            if not has_kernel(x) or is_watched():
                if name in IN_GRAPHS and is_graphed() and _operators.takes(x):
                    return _operators.dropout(x, p, IN_GRAPHS[name], None, 0, None)
            elif x.numel():
                y = ours(x, p)
                if y is not NotImplemented:
                    return y
        return native(x, p, train)

    return kernel


def _bernoulli_(native: Kernel, enabled: Container[str]) -> Kernel:
    """Return bernoulli_: ones where a mask of ours keeps, else zeros."""

    def kernel(x: torch.Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> torch.Tensor:
        if BERNOULLI in enabled and 0.0 < p < 1.0 and x.numel() >= BERNOULLI_FROM and not x.is_complex():
            return x.copy_(_mask_of(x, (1 - p, _seeds.of(x, None, generator), 0, order_of(x))))
        return native(x, p, generator=generator)  # type: ignore[no-any-return]

    return kernel
