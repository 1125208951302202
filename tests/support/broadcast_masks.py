"""What a member with a mask of another shape has to return, and what all of them have to work with."""

from collections.abc import Callable, Sequence

import mask_reference
import numpy as np
import oracle
import torch
from torch.fx.experimental.proxy_tensor import make_fx

Drop = Callable[[torch.Tensor], torch.Tensor]  # a member of the family with everything but the input given


def keep(noise: Sequence[int], p: float, seed: int, offset: int = 0) -> torch.Tensor:
    """Return a mask of this shape, True where the element is kept: the stream's elements row by row."""
    kept = mask_reference.keep_mask(np.arange(int(np.prod(noise))), p, seed, offset)
    return torch.from_numpy(kept).reshape(tuple(noise))


def drop(x: torch.Tensor, noise: Sequence[int], p: float, seed: int, offset: int = 0, scaled: bool = True):
    """Return x where the mask keeps it, scaled or not, and +0 elsewhere."""
    kept = keep(noise, p, seed, offset).expand(x.shape)
    return oracle.apply(x, kept, p if scaled else 0.0)


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal numbers, the same for any dtype but for their rounding."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def check_graphs(f: Drop, x: torch.Tensor) -> None:
    """Check that f with a fixed key is one graph without a break, forward and backward, with eager code's masks."""
    x = x.detach().requires_grad_()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    oracle.assert_same_bits(compiled(x), f(x))
    assert compiled(x).stride() == f(x).stride()
    (grad,), (wanted,) = (torch.autograd.grad(g(x).sum(), x) for g in (compiled, f))
    oracle.assert_same_bits(grad, wanted)
    oracle.assert_same_bits(make_fx(lambda z: f(z))(x.detach())(x.detach()), f(x))


def bytes_kept(f: Drop, x: torch.Tensor) -> int:
    """Return how many bytes autograd keeps of f for the backward."""
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel() * tensor.itemsize)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        f(x.detach().requires_grad_())
    return sum(kept)
