"""Torch's own dropout operators by our kernels: what `install` puts into torch's dispatcher.

`override` makes of a variant what the dispatcher calls for torch's operator of that name: in training the router of all
ops, with torch's own kernel for what is not ours; every other call goes to torch's kernel as it came.
"""

from collections.abc import Callable, Container
from functools import partial
from typing import Any, Final

import torch

from fastdrop._devices.kernels import FLOATS, PLAIN, has_kernel
from fastdrop._keys.broadcast import channels_of
from fastdrop._keys.key import Key
from fastdrop._ops import draws
from fastdrop._ops.dispatch import route
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.layout import compute, counting_strides_of
from fastdrop._ops.modes import in_graph_tracing, in_transform, is_exported
from fastdrop._ops.resolve import resolve
from fastdrop._ops.variants import DROPOUT, VARIANTS

BERNOULLI: Final = "bernoulli_.float"
BERNOULLI_DTYPES: Final = {*FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
BERNOULLI_FROM: Final = 2048  # elements, below which torch's own is as fast

OVERRIDDEN: Final = {variant.operator: variant for variant in VARIANTS if variant.operator is not None}
NATIVE_DROPOUT: Final = "native_dropout"
OPERATORS: Final = frozenset([*OVERRIDDEN, *(f"{name}_" for name in OVERRIDDEN), NATIVE_DROPOUT])

Kernel = Callable[..., Any]  # takes the arguments of torch's operator
Counting = Callable[[str, Kernel, Callable[..., str]], Kernel]  # (operator, torch's kernel, why it is called) -> both

NATIVES: Final[list[Callable[[Counting | None], None]]] = []  # have calls of torch's kernels counted, or no more


def names(bernoulli: bool) -> frozenset[str]:
    """Return the operators to override, bernoulli_ among them or not."""
    return OPERATORS.union([BERNOULLI] if bernoulli else [])


def keys(name: str) -> tuple[str, ...]:
    """Return the dispatch keys to override an operator on."""
    if name == BERNOULLI:  # below autograd, which knows these two; a GPU makes bernoulli_ in one pass anyway
        return ("CPU",)
    if name == NATIVE_DROPOUT:
        return ("CPU", "CUDA")
    return ("AutogradCPU", "CPU", "AutogradCUDA", "CUDA")  # CPU and CUDA: inference mode skips autograd


def override(name: str, native: Kernel, enabled: Container[str]) -> Kernel:
    """Return what the dispatcher is to call for an operator: ours while enabled and where it can, else native."""
    if name == BERNOULLI:
        return _bernoulli_(native, enabled)
    if name == NATIVE_DROPOUT:
        return _native_dropout(native, enabled)
    inplace, by_channels = name.endswith("_"), name.startswith("feature")
    variant = OVERRIDDEN[name.rstrip("_")]._replace(native=lambda x, p, train, _: native(x, p, train))

    @dynamo_skip
    def kernel(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        if name not in enabled or not (train and 0.0 < p < 1.0) or in_transform():
            return native(x, p, train)  # type: ignore[no-any-return]  # a transform comes here from within an operator
        if by_channels and x.dim() < 2:
            return native(x, p, train)  # type: ignore[no-any-return]  # there are none: torch's error
        noise_shape = channels_of(x.shape) if by_channels else None
        return route(variant, x, p, inplace, noise_shape, None, 0, None)

    original = native

    def count(counting: Counting | None) -> None:
        nonlocal native  # of the kernel, to which it makes no difference in time
        native = original if counting is None else counting(name, original, partial(why_native, name, enabled))

    NATIVES.append(count)
    return kernel


def why_native(name: str, enabled: Container[str], x: torch.Tensor, p: float, train: bool | None) -> str:
    """Return which condition of the kernels here fails, where they call torch's."""
    if name not in enabled:
        return "install() is off"
    if p == 1.0:
        return "p = 1"
    return "torch.func transform" if in_transform() else ""


def _native_dropout(native: Kernel, enabled: Container[str]) -> Kernel:
    """Return dropout together with its mask, which torch's own backward takes: here autograd is above."""

    @dynamo_skip
    def kernel(x: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
        if NATIVE_DROPOUT not in enabled or train is False or not 0.0 < p < 1.0 or not has_kernel(x) or not x.numel():
            return native(x, p, train)  # type: ignore[no-any-return]
        if is_exported() or in_graph_tracing():
            return native(x, p, train)  # type: ignore[no-any-return]
        key = p, resolve(x, None, None), 0, counting_strides_of(x), None
        return compute(DROPOUT.formula, x, key), _mask_of(x, key)

    return kernel


def _mask_of(x: torch.Tensor, key: Key) -> torch.Tensor:
    p, seed, offset, counted_by, _ = key
    return draws.mask(x.shape, p, seed, offset, strides=counted_by, device=x.device)


def _bernoulli_(native: Kernel, enabled: Container[str]) -> Kernel:
    """Return bernoulli_: ones where a mask of ours keeps, else zeros."""

    @dynamo_skip
    def kernel(x: torch.Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> torch.Tensor:
        is_plain = type(x) in PLAIN and x.dtype in BERNOULLI_DTYPES
        if BERNOULLI in enabled and is_plain and 0.0 < p < 1.0 and x.numel() >= BERNOULLI_FROM:
            return x.copy_(_mask_of(x, (1 - p, resolve(x, None, generator), 0, counting_strides_of(x), None)))
        return native(x, p, generator=generator)  # type: ignore[no-any-return]

    return kernel
