"""What is compared on the device: dropouts as a user calls them, and their lower bounds.

`native`, `compiled`, `triton`, `fastdrop` and `clone` allocate their outputs; `fastdrop_into` (the bare kernel) and
`copy` write to existing outputs. All have the same bytes to move: for forward and backward together, `copy` and
`clone` copy the input and the gradient. So the time of `copy` over a dropout's is its share of the copy's bandwidth.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch.nn.functional import dropout as native_dropout

from bench.gpu.device import Device
from bench.gpu.session import reason
from bench.gpu.timing import Provider
from fastdrop._devices.kernels import launch_into as launch
from fastdrop.bench.providers import SEED, P
from fastdrop.functional import dropout

Dropout = Callable[[torch.Tensor], torch.Tensor]


def _native(x: torch.Tensor) -> torch.Tensor:
    return native_dropout(x, P)


def _ours(x: torch.Tensor) -> torch.Tensor:
    return dropout(x, P)


def _compiled() -> Dropout:
    torch.compiler.reset()  # once for each size: after a second one Inductor would compile slower code for all sizes
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
BASELINES: Final = ("native", "compiled", "triton")


class Buffers(NamedTuple):
    """Inputs and outputs that the providers cycle through."""

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
    """Return the dropouts that are available here, and why others are not."""
    dropouts, failed = {}, {}
    for name, build in BUILDERS.items():
        try:
            dropouts[name] = build()
        except Exception as error:  # whatever a compiler or a missing package says
            failed[name] = reason(error)
    return dropouts, failed


def forward(dropouts: Mapping[str, Dropout], use: Buffers) -> dict[str, Provider]:
    """Return the providers of the forward."""

    def calling(function: Dropout) -> Provider:
        return lambda i: function(use.xs[i])

    return {
        **{name: calling(function) for name, function in dropouts.items()},
        "fastdrop_into": lambda i: launch("dropout", use.xs[i], use.ys[i], P, SEED, 0),
        "clone": lambda i: use.xs[i].clone(),
        "copy": lambda i: use.ys[i].copy_(use.xs[i]),
    }


def forward_backward(dropouts: Mapping[str, Dropout], use: Buffers) -> dict[str, Provider]:
    """Return the providers of the forward and backward."""
    xs = [x.detach() for x in use.xs]

    def calling(function: Dropout) -> Provider:
        def both(i: int) -> object:
            y = function(use.xs[i])
            return y, torch.autograd.grad(y, use.xs[i], use.grads[i])  # y too: else its memory would be reused

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


def _warm_up(provider: Provider, count: int) -> None:
    """Call once more than there are buffers and keep all results, so that memory for them is allocated."""
    _results = [provider(i % count) for i in range(count + 1)]


def usable(device: Device, part: str, use: Buffers) -> tuple[dict[str, Provider], dict[str, str]]:
    """Return the providers of a pass that run on these buffers, warmed up, and why others fail."""
    dropouts, failed = built()
    can = {}
    for name, provider in MAKERS[part](dropouts, use).items():
        try:
            _warm_up(provider, len(use.xs))
            device.synchronize()
            can[name] = provider
        except Exception as error:  # whatever a compiler, a kernel or a full memory says
            failed[name] = reason(error)
    return can, failed
