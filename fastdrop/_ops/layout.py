"""In which order a tensor's elements are counted, and the tensors that a kernel sees.

Elements are counted in the order of memory where a tensor is dense, else row by row. Counting strides are those of a
dense tensor, or None for row by row; a backward keeps them, for gradients come with strides of their own.
"""

import torch

from fastdrop._devices.kernels import has_address, launch
from fastdrop._keys.broadcast import BroadcastLayout, broadcast_layout_of
from fastdrop._keys.key import CountingStrides, Key, NoiseShape
from fastdrop._ops import decompose, modes


def counting_strides_of(x: torch.Tensor) -> CountingStrides:
    """Return the strides that a tensor's elements are counted by."""
    if x.is_contiguous():
        return None
    strides, dense = x.stride(), 1  # not compared with empty_like's: under vmap that may keep the gaps of a batch
    for stride, size in sorted(zip(strides, x.shape, strict=True)):
        if size != 1:
            if stride != dense:
                return None
            dense *= size
    return strides


def has_strides(x: torch.Tensor, counted_by: CountingStrides) -> bool:
    """Return whether x's memory has the order that elements are counted in."""
    return x.is_contiguous() if counted_by is None else x.stride() == counted_by


def copied_to_strides(x: torch.Tensor, counted_by: CountingStrides) -> torch.Tensor:
    """Return a copy of x in memory of this order."""
    has_memory(x)  # or raises, where torch's copy would end the process
    strides = torch.empty(x.shape, device="meta").stride() if counted_by is None else counted_by
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def has_memory(x: torch.Tensor) -> bool:
    """Return whether x has memory, or needs none; raise if it had some that was taken away."""
    if has_address(x):
        return True
    if modes.is_zero(x) or modes.is_functional(x):
        return False
    raise RuntimeError(f"kernel needs memory, but got a tensor of {x.numel()} elements whose storage is empty")


def materialized(x: torch.Tensor) -> torch.Tensor:
    """Return a copy, with the same strides, of an x without memory, or raise as `has_memory` does."""
    has_memory(x)
    copy = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    if modes.is_zero(x):
        return copy.zero_()
    torch._sync(x)  # type: ignore[attr-defined, no-untyped-call]
    return copy.copy_(torch._from_functional_tensor(x))  # whose strides may be others


def compute(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x; dense strides are kept, as native's are."""
    parameter, seed, offset, counted_by, noise_shape = key
    # The first half of has_strides stands here too: the call would cost 64 elements one percent of their time.
    if (
        noise_shape is None
        and (x.is_contiguous() if counted_by is None else has_strides(x, counted_by))
        and not x.is_neg()
    ):
        y = torch.empty_like(x)
        if not launch(name, x, y, parameter, seed, offset):
            y.copy_(compute_(name, materialized(x), key))
        return y
    if (broadcast := _broadcast_layout_over(x, noise_shape)) is not None:
        y = torch.empty_like(x)
        if not launch(name, x, y, parameter, seed, offset, broadcast):
            y.copy_(compute_(name, materialized(x), key))
        return y
    y = compute_(name, copied_to_strides(x, counted_by), key)
    native = torch.empty_like(x)
    is_like_natives = native.stride() == y.stride() or (noise_shape is None and native.stride() == x.stride())
    return y if is_like_natives else native.copy_(y)


def compute_(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Overwrite x, whose memory is in the key's order, with a formula's result, and return x."""
    parameter, seed, offset, _, noise_shape = key
    if noise_shape is None:
        launch(name, x, x, parameter, seed, offset)
    elif (broadcast := _broadcast_layout_over(x, noise_shape)) is not None:
        launch(name, x, x, parameter, seed, offset, broadcast)
    elif x.is_contiguous():
        x.copy_(decompose.run(name, x, key))
    else:  # a mask that lies over no memory of x may lie over a copy
        x.copy_(compute_(name, copied_to_strides(x, None), key))
    return x


def _broadcast_layout_over(x: torch.Tensor, noise_shape: NoiseShape) -> BroadcastLayout | None:
    """Return how the mask lies over x where a kernel can apply it there."""
    return None if noise_shape is None or x.is_neg() else broadcast_layout_of(x.shape, x.stride(), noise_shape)
