"""What is compared on the device: dropouts as a user calls them, and what bounds them.

`native`, `compiled`, `triton`, `fastdrop` and `clone` allocate their outputs; `fastdrop_into` (the bare kernel) and
`copy` write to outputs that are there. All have the same bytes to move: for forward and backward together, `copy` and
`clone` copy the input and the gradient. So the time of `copy` over a dropout's is its share of the copy's bandwidth.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch.nn.functional import dropout as native_dropout

from bench.gpu.device import Device
from bench.gpu.session import reason
from bench.gpu.timing import Contender
from fastdrop._devices.kernels import launch_into as launch
from fastdrop.bench.contenders import SEED, P
from fastdrop.functional import dropout

Dropout = Callable[[torch.Tensor], torch.Tensor]


def _native(x: torch.Tensor) -> torch.Tensor:
    return native_dropout(x, P)


def _ours(x: torch.Tensor) -> torch.Tensor:
    return dropout(x, P)


def _compiled() -> Dropout:
    torch.compiler.reset()  # every size for itself: after a second one Inductor would compile for all, and slower
    return torch.compile(_native, fullgraph=True, dynamic=False)


def _triton() -> Dropout:
    from bench.gpu.triton_dropout import dropout as triton_dropout

    return lambda x: triton_dropout(x, P)


BUILDERS: Final[dict[str, Callable[[], Dropout]]] = {
    "native": lambda: _native,
    "compiled": _compiled,
    "triton": _triton,
    "fastdrop": lambda: _ours,
}
RIVALS: Final = ("native", "compiled", "triton")


class Buffers(NamedTuple):
    """Inputs and outputs that the contenders take in turn."""

    xs: list[torch.Tensor]
    ys: list[torch.Tensor]
    grads: list[torch.Tensor]  # of y; none for the forward alone
    dxs: list[torch.Tensor]


def buffers(device: Device, dtype: torch.dtype, size: int, count: int, backward: bool) -> Buffers:
    """Return `count` sets of buffers, inputs that require grad where there is a backward."""

    def tensors(make: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        return [make(size, dtype=dtype, device=device.place) for _ in range(count)]

    xs, ys = tensors(torch.randn), tensors(torch.zeros)
    grads, dxs = (tensors(torch.randn), tensors(torch.zeros)) if backward else ([], [])
    return Buffers([x.requires_grad_(backward) for x in xs], ys, grads, dxs)


def built() -> tuple[dict[str, Dropout], dict[str, str]]:
    """Return the dropouts that can be had here, and why others cannot."""
    dropouts, failed = {}, {}
    for name, build in BUILDERS.items():
        try:
            dropouts[name] = build()
        except Exception as error:  # whatever a compiler or a missing package says
            failed[name] = reason(error)
    return dropouts, failed


def forward(dropouts: Mapping[str, Dropout], use: Buffers) -> dict[str, Contender]:
    """Return the contenders of the forward."""

    def calling(function: Dropout) -> Contender:
        return lambda i: function(use.xs[i])

    return {
        **{name: calling(function) for name, function in dropouts.items()},
        "fastdrop_into": lambda i: launch("dropout", use.xs[i], use.ys[i], P, SEED, 0),
        "clone": lambda i: use.xs[i].clone(),
        "copy": lambda i: use.ys[i].copy_(use.xs[i]),
    }


def forward_backward(dropouts: Mapping[str, Dropout], use: Buffers) -> dict[str, Contender]:
    """Return the contenders of the forward and backward."""
    xs = [x.detach() for x in use.xs]

    def calling(function: Dropout) -> Contender:
        def both(i: int) -> object:
            y = function(use.xs[i])
            return y, torch.autograd.grad(y, use.xs[i], use.grads[i])  # y too: else the next would reuse its memory

        return both

    def into(i: int) -> None:
        launch("dropout", xs[i], use.ys[i], P, SEED, 0)
        launch("dropout", use.grads[i], use.dxs[i], P, SEED, 0)

    return {
        **{name: calling(function) for name, function in dropouts.items()},
        "fastdrop_into": into,
        "clone": lambda i: (xs[i].clone(), use.grads[i].clone()),
        "copy": lambda i: (use.ys[i].copy_(xs[i]), use.dxs[i].copy_(use.grads[i])),
    }


MAKERS: Final = {"forward": forward, "forward_backward": forward_backward}


def _warm_up(contender: Contender, count: int) -> None:
    """Call once more than there are buffers and keep all results, so that memory for so many is there later."""
    _results = [contender(i % count) for i in range(count + 1)]


def usable(device: Device, part: str, use: Buffers) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the contenders of a pass that run on these buffers, warmed up, and why others do not."""
    dropouts, failed = built()
    can = {}
    for name, contender in MAKERS[part](dropouts, use).items():
        try:
            _warm_up(contender, len(use.xs))
            device.synchronize()
            can[name] = contender
        except Exception as error:  # whatever a compiler, a kernel or a full memory says
            failed[name] = reason(error)
    return can, failed
