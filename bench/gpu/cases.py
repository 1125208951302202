"""What is compared between the device and the CPU: each case is a function that runs on either side."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

import torch

from bench.tables import name_of, short
from fastdrop._devices.kernels import launch_into as launch
from fastdrop.functional import dropout, dropout_mask

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SIZES: Final = (1, 7, 8, 9, 1023, 1025, 100_003, 1 << 20)
FEW_SIZES: Final = (9, 1025, 100_003)
PS: Final = (0.1, 0.5, 0.9)
STARTS: Final = (0, 5, (1 << 33) + 3)
PLACES: Final = (
    (0, 0),
    (1, 1),
    (3, 3),
    (1, 0),
    (0, 3),
    (3, 1),
)  # where x and y begin, elements after an aligned address
MARGIN: Final = 8  # elements before and after what a kernel is to touch, together
SEED: Final = 0xFEDCBA9876543210  # and offset: all 64 bits count
OFFSET: Final = 0x8000000000000001
SIGNED_KEY: Final = (SEED - (1 << 64), OFFSET - (1 << 64))


class Side(NamedTuple):
    """Where a case runs."""

    place: torch.device
    late: Callable[[Callable[[], torch.Tensor]], torch.Tensor]  # runs work on a stream that starts late


class Case(NamedTuple):
    """One comparison."""

    what: str
    work: Callable[[Side], torch.Tensor]


def inputs(dtype: torch.dtype, size: int) -> torch.Tensor:
    """Return numbers of all kinds: ordinary, subnormal, -0, infinite, NaN, the largest."""
    x = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
    x[4::11] *= torch.finfo(dtype).tiny / 4
    specials = (-0.0, float("inf"), float("-inf"), float("nan"), torch.finfo(dtype).max)
    for first, value in enumerate(specials, start=5):
        x[first::13] = value
    return x


def memory(x: torch.Tensor) -> torch.Tensor:
    """Return the whole storage of x, with the gaps between its elements, as one row."""
    return torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage())


def moved(x: torch.Tensor, side: Side) -> torch.Tensor:
    """Return a copy of x with its gaps, which a plain copy to another device would close."""
    return memory(x).to(side.place, copy=True).as_strided(x.shape, x.stride(), x.storage_offset())


def kernel(side: Side, x: torch.Tensor, p: float, first: int, second: int) -> torch.Tensor:
    """Return a whole tensor, into a part of which the bare kernel wrote from a part of another."""
    source, size = moved(x, side), len(x) - MARGIN
    target = torch.full_like(source, 7)
    launch("dropout", source[first : first + size], target[second : second + size], p, *SIGNED_KEY)
    return target


def kernel_in_place(side: Side, x: torch.Tensor, p: float, first: int) -> torch.Tensor:
    """Return a whole tensor, of which the bare kernel overwrote a part."""
    target = moved(x, side)
    part = target[first : first + len(x) - MARGIN]
    launch("dropout", part, part, p, *SIGNED_KEY)
    return target


def call(side: Side, x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the dropout of x."""
    return dropout(moved(x, side), p, seed=SEED, offset=OFFSET)


def call_in_place(side: Side, x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the memory of x, which is overwritten."""
    target = moved(x, side)
    dropout(target, p, inplace=True, seed=SEED, offset=OFFSET)
    return memory(target)


def gradient(side: Side, x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the gradient of a dropout whose grad_output is x."""
    leaf = torch.ones_like(x, device=side.place, requires_grad=True)
    return torch.autograd.grad(dropout(leaf, p, seed=SEED, offset=OFFSET), leaf, moved(x, side))[0]


def gradient_of_own_seed(side: Side, x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the difference of output and gradient, both of ones, where dropout draws its seed: zeros."""
    leaf = torch.ones_like(x, device=side.place, requires_grad=True)
    y = dropout(leaf, p)
    return torch.autograd.grad(y, leaf, torch.ones_like(y))[0] - y.detach()


def late(side: Side, x: torch.Tensor, p: float) -> torch.Tensor:
    """Return the dropout of what the current stream writes late; a kernel on another stream would read zeros."""
    source, target = moved(x, side), torch.zeros_like(x, device=side.place)
    return side.late(lambda: dropout(target.copy_(source), p, seed=SEED, offset=OFFSET))


def mask(side: Side, size: int, p: float, start: int) -> torch.Tensor:
    """Return a part of the mask stream."""
    return dropout_mask(size, p, seed=SEED, offset=OFFSET, start=start, device=side.place)


def _kernel_cases(dtype: torch.dtype) -> Iterator[Case]:
    for size in SIZES:
        x = inputs(dtype, size + MARGIN)
        for p, (first, second) in itertools.product(PS, PLACES):
            what = f"kernel, {name_of(dtype)}, {size} elements, p={p}, x at +{first}"
            yield Case(f"{what}, y at +{second}", partial(kernel, x=x, p=p, first=first, second=second))
            if first == second:
                yield Case(f"{what}, in place", partial(kernel_in_place, x=x, p=p, first=first))


def _call_cases(dtype: torch.dtype) -> Iterator[Case]:
    works = (call, call_in_place, gradient, gradient_of_own_seed, late)
    for size, p, work in itertools.product(FEW_SIZES, PS, works):
        what = f"{work.__name__.replace('_', ' ')}, {name_of(dtype)}, {size} elements, p={p}"
        yield Case(what, partial(work, x=inputs(dtype, size), p=p))
    matrix = inputs(dtype, 1000).reshape(40, 25)
    for what, x in {"transposed": matrix.T, "with gaps": matrix[:, 1:20:3]}.items():
        for work in (call, call_in_place, gradient):
            yield Case(f"{work.__name__}, {name_of(dtype)}, {what}", partial(work, x=x, p=0.5))


def _mask_cases() -> Iterator[Case]:
    for size, p, start in itertools.product(SIZES, PS, STARTS):
        yield Case(f"mask, {short(size)} from {start}, p={p}", partial(mask, size=size, p=p, start=start))


def cases() -> Iterator[tuple[str, Iterator[Case]]]:
    """Return all cases, in groups."""
    for dtype in DTYPES:
        yield f"kernel, {name_of(dtype)}", _kernel_cases(dtype)
        yield f"dropout and its gradient, {name_of(dtype)}", _call_cases(dtype)
    yield "dropout_mask", _mask_cases()
