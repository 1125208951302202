"""In which order a tensor's elements are counted, and the tensors that a kernel sees.

Elements are counted in the order of memory where a tensor is dense, else row by row. An order is the strides of a dense
tensor, or None for row by row; it is what a backward keeps, for gradients come with strides of their own.
"""

import torch

from fastdrop._devices.kernels import STRIDED, has_memory
from fastdrop._devices.kernels import run as run_kernel
from fastdrop._keys.broadcast import Pattern, pattern_of
from fastdrop._keys.key import Key, Noise, Order
from fastdrop._ops import decompose


def order_of(x: torch.Tensor) -> Order:
    """Return the order of a tensor's elements."""
    if x.is_contiguous():
        return None
    strides, dense = x.stride(), 1  # not compared with empty_like's: under vmap that may keep the gaps of a batch
    for stride, size in sorted(zip(strides, x.shape, strict=True)):
        if size != 1:
            if stride != dense:
                return None
            dense *= size
    return strides


def is_counted(x: torch.Tensor, order: Order) -> bool:
    """Return whether the order of x's memory is `order`."""
    return x.is_contiguous() if order is None else x.stride() == order


def in_order(x: torch.Tensor, order: Order) -> torch.Tensor:
    """Return a copy of x in memory of this order."""
    has_memory(x)  # or raises, where torch's copy would end the process
    strides = torch.empty(x.shape, device="meta").stride() if order is None else order
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def run(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Return a formula's result for x; dense strides are kept, as native's are."""
    p, seed, offset, order, noise = key
    # The first half of is_counted stands here too: the call would cost 64 elements one percent of their time.
    if noise is None and (x.is_contiguous() if order is None else is_counted(x, order)) and not x.is_neg():
        y = torch.empty_like(x)
        run_kernel(name, x, y, p, seed, offset)
        return y
    if x.layout is not STRIDED:  # the gradient of a gather can be sparse
        x = x.to_dense()
    if (pattern := _pattern_over(x, noise)) is not None:
        y = torch.empty_like(x)
        run_kernel(name, x, y, p, seed, offset, pattern)
        return y
    y = run_(name, in_order(x, order), key)
    native = torch.empty_like(x)
    is_like_natives = native.stride() == y.stride() or (noise is None and native.stride() == x.stride())
    return y if is_like_natives else native.copy_(y)


def run_(name: str, x: torch.Tensor, key: Key) -> torch.Tensor:
    """Overwrite x, whose memory is in the key's order, with a formula's result, and return x."""
    p, seed, offset, _, noise = key
    if noise is None:
        run_kernel(name, x, x, p, seed, offset)
    elif (pattern := _pattern_over(x, noise)) is not None:
        run_kernel(name, x, x, p, seed, offset, pattern)
    elif x.is_contiguous():
        x.copy_(decompose.run(name, x, key))
    else:
        x.copy_(run_(name, in_order(x, None), key))  # a mask that lies over no memory of x may lie over a copy
    return x


def _pattern_over(x: torch.Tensor, noise: Noise) -> Pattern | None:
    """Return how the mask lies over x where a kernel can apply it there."""
    return None if noise is None or x.is_neg() else pattern_of(x.shape, x.stride(), noise)
