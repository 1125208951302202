"""What is compared: native dropout, ours, and copies, their lower bounds."""

from collections.abc import Callable
from typing import Final

import torch
from torch.nn.functional import dropout as native_dropout

from fastdrop._devices import kernels
from fastdrop.functional import dropout

P: Final = 0.5
SEED: Final = 1
DROPOUTS: Final = {"native": native_dropout, "fastdrop": dropout}

Providers = dict[str, Callable[[], object]]


def forward(x: torch.Tensor) -> Providers:
    """Return the providers of the forward.

    `native`, `fastdrop` and `clone` allocate their output at each call; `fastdrop_into` and `copy` write to an
    existing one, so only memory bandwidth bounds them.

    Parameters
    ----------
    x : Tensor that requires no grad
        The input.
    """
    y = torch.zeros_like(x)  # written, so that its pages are mapped
    return {
        "native": lambda: native_dropout(x, P),
        "fastdrop": lambda: dropout(x, P),
        "clone": lambda: x.clone(),
        "fastdrop_into": lambda: kernels.launch_into("dropout", x, y, P, SEED, 0),
        "copy": lambda: y.copy_(x),
    }


def forward_backward(x: torch.Tensor) -> Providers:
    """Return the providers of the forward and backward.

    Parameters
    ----------
    x : Tensor that requires grad
        The input.
    """
    grad = torch.ones_like(x, requires_grad=False)
    return {
        "native": lambda: torch.autograd.grad(native_dropout(x, P), x, grad),
        "fastdrop": lambda: torch.autograd.grad(dropout(x, P), x, grad),
        "clone": lambda: torch.autograd.grad(x.clone(), x, grad),
    }


def bytes_kept(dropout: Callable[[torch.Tensor], object], x: torch.Tensor) -> float:
    """Return the bytes per element that a dropout keeps for its backward: all memory that is saved, each once.

    Parameters
    ----------
    dropout : function of a Tensor
        Any of `DROPOUTS`, say.
    x : Tensor that requires grad
        The input.
    """
    kept = []

    def pack(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.untyped_storage())  # held, so that no other has its address
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        dropout(x)
    return sum({storage.data_ptr(): storage.nbytes() for storage in kept}.values()) / x.numel()
