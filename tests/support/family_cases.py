"""Every variant by name, with an input for it, its mask's shape, and the GPU kernels that it comes down to."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import oracle
import torch

from fastdrop import functional
from fastdrop_kernels import names

P = 0.4


class Case(NamedTuple):
    """A member with all but the tensor that it drops elements of, and the key."""

    function: Callable[..., torch.Tensor]
    shape: tuple[int, ...]
    forward: str  # kernels
    backward: str | None
    noise: tuple[int, ...] | None = None  # the shape of the stream's mask, where it is one over the input
    turned: bool = False  # channels last, or the like where there are no four dimensions

    def input(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return normal numbers, the same for any dtype but for their rounding."""
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        if not self.turned:
            return x
        if len(self.shape) == 4:
            return x.to(memory_format=torch.channels_last)
        first = 0 if len(self.shape) == 2 else 1
        return x.transpose(first, -1).contiguous().transpose(first, -1)

    @property
    def formula(self) -> str:
        """Return what is computed of an element."""
        return self.forward.removeprefix("segments_").removeprefix("repeated_rows_")

    def slope(self, x: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the derivative by the specification: what each element is multiplied by, or 0."""
        counted = x if self.noise == self.shape else torch.empty(self.noise)
        kept = oracle.keep(counted, P, seed).expand(x.shape)
        scales = {"drop": 1.0, "alpha_dropout": oracle.alpha_factors(P, x.dtype)[0]}
        scale = scales.get(self.formula, oracle.scale(P, x.dtype))
        return torch.where(kept, torch.tensor(scale, dtype=oracle.COMPUTE[x.dtype]), 0)

    def results(self, x: torch.Tensor, **key: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the result for x, and the gradient of x for `grad_output_of` the result."""
        x = x.detach().requires_grad_()
        y = self.function(x, **key)
        return y.detach(), torch.autograd.grad(y, x, grad_output_of(y))[0]


def grad_output_of(y: torch.Tensor) -> torch.Tensor:
    """Return a gradient like y in memory, the same on all devices."""
    values = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.empty_like(y).copy_(values)


def connected(weight: torch.Tensor, **key: Any) -> torch.Tensor:
    """Return dropped weights as they are: a product with the identity rounds nothing."""
    one = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    return functional.drop_connect(one, weight, p=P, **key).T


def words(device: torch.device | None = None) -> torch.Tensor:
    """Return indices below 7, none more than twice: a third gradient of a row would make the order of sums count."""
    return (torch.arange(12, device=device) * 5 % 7).reshape(3, 4)  # made there: a captured CUDA graph can hold it


def embedded(weight: torch.Tensor, **key: Any) -> torch.Tensor:
    return functional.embedding_dropout(words(weight.device), weight, P, **key)


def added(x: torch.Tensor, **key: Any) -> torch.Tensor:
    return functional.dropout_add(x, torch.zeros_like(x), P, **key)


def of(name: str, **settings: Any) -> Callable[..., torch.Tensor]:
    return functools.partial(getattr(functional, name), **{"p": P, "training": True, **settings})


# Kernels, forward and backward.
DROPOUT, SEGMENTS, ROWS = ((f"{layout}dropout",) * 2 for layout in names.LAYOUTS)
ALPHA, SEGMENTS_ALPHA, ROWS_ALPHA = (
    (f"{layout}alpha_dropout", f"{layout}alpha_dropout_derivative") for layout in names.LAYOUTS
)
DROP = ("segments_drop",) * 2
CASES = {
    "dropout": Case(of("dropout"), (5, 70), *DROPOUT, (5, 70)),
    "dropout_add": Case(added, (5, 70), "dropout_add", "dropout", (5, 70)),
    "dropout, mask of rows": Case(of("dropout", noise_shape=(3, 1, 8)), (3, 6, 8), *ROWS, (3, 1, 8)),
    "dropout, mask of runs": Case(of("dropout", noise_shape=(3, 6, 1)), (3, 6, 8), *SEGMENTS, (3, 6, 1)),
    "dropout, mask between": Case(of("dropout", noise_shape=(1, 6, 1)), (3, 6, 8), "mask", "mask", (1, 6, 1)),
    "dropout1d": Case(of("dropout1d"), (3, 4, 5), *SEGMENTS, (3, 4, 1)),
    "dropout2d": Case(of("dropout2d"), (2, 8, 4, 5), *SEGMENTS, (2, 8, 1, 1)),
    "dropout2d, channels last": Case(of("dropout2d"), (2, 8, 4, 5), *ROWS, (2, 8, 1, 1), turned=True),
    "dropout3d": Case(of("dropout3d"), (2, 8, 4, 3, 5), *SEGMENTS, (2, 8, 1, 1, 1)),
    "alpha_dropout": Case(of("alpha_dropout"), (5, 70), *ALPHA, (5, 70)),
    "feature_alpha_dropout": Case(of("feature_alpha_dropout"), (3, 4, 5), *SEGMENTS_ALPHA, (3, 4, 1)),
    "feature_alpha_dropout, channels last": Case(
        of("feature_alpha_dropout"), (2, 8, 4, 5), *ROWS_ALPHA, (2, 8, 1, 1), turned=True
    ),
    "gaussian_dropout": Case(of("gaussian_dropout"), (5, 70), "gaussian_dropout", "gaussian_dropout"),
    "gaussian_noise": Case(functools.partial(functional.gaussian_noise, std=0.3), (5, 70), "gaussian_noise", None),
    "drop_path": Case(of("drop_path"), (6, 5, 7), *SEGMENTS, (6, 1, 1)),
    "drop_path, unscaled": Case(of("drop_path", scale_by_keep=False), (6, 5, 7), *DROP, (6, 1, 1)),
    "stochastic_depth": Case(of("stochastic_depth", mode="row"), (6, 5, 7), *SEGMENTS, (6, 1, 1)),
    "stochastic_depth, of batches": Case(of("stochastic_depth", mode="batch"), (6, 5, 7), *SEGMENTS, (1, 1, 1)),
    "variational_dropout": Case(of("variational_dropout"), (5, 3, 8), *ROWS, (1, 3, 8)),
    "variational_dropout, batch first": Case(of("variational_dropout", batch_first=True), (3, 5, 8), *ROWS, (3, 1, 8)),
    "drop_block2d": Case(of("drop_block2d", block_size=3), (2, 3, 7, 6), "mask", None),
    "drop_block3d": Case(of("drop_block3d", block_size=3), (1, 2, 5, 6, 7), "mask", None),
    "drop_connect": Case(connected, (7, 12), *DROPOUT),
    "embedding_dropout": Case(embedded, (7, 6), "mask", "mask"),
}
EVERY_SHAPE = CASES | {  # the same kernels, and other ways to them
    "dropout1d, unbatched": Case(of("dropout1d"), (6, 5), *SEGMENTS, (6, 1)),
    "dropout2d, of three dimensions": Case(of("dropout2d"), (2, 3, 4), *SEGMENTS, (2, 3, 1)),
    "dropout3d, unbatched": Case(of("dropout3d"), (6, 2, 3, 2), *SEGMENTS, (6, 1, 1, 1)),
    "alpha_dropout, transposed": Case(of("alpha_dropout"), (4, 7), *ALPHA, (4, 7), turned=True),
    "feature_alpha_dropout, turned": Case(of("feature_alpha_dropout"), (3, 4, 5), *ROWS_ALPHA, (3, 4, 1), turned=True),
}


def base(name: str) -> str:
    """Return the name of the function of a case."""
    return name.partition(",")[0]


def in_place(names: Iterable[str]) -> list[str]:
    """Return those that can write their result over their input."""
    return [name for name in names if "inplace" in inspect.signature(getattr(functional, base(name))).parameters]


IN_PLACE = in_place(CASES)
