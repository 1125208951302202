"""Every member of the family by name, with an input for it and the GPU kernels that it comes down to."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fastdrop import functional

P = 0.4


class Case(NamedTuple):
    """A member with all but the tensor that it drops elements of, and the key."""

    function: Callable[..., torch.Tensor]
    shape: tuple[int, ...]
    forward: str  # kernels
    backward: str | None
    turned: bool = False  # channels last

    def input(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return normal numbers, the same for any dtype but for their rounding."""
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        return x.to(memory_format=torch.channels_last) if self.turned else x

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


def of(name: str, **settings: Any) -> Callable[..., torch.Tensor]:
    return functools.partial(getattr(functional, name), **{"p": P, "training": True, **settings})


CASES = {
    "dropout": Case(of("dropout"), (5, 70), "dropout", "dropout"),
    "dropout, mask of rows": Case(
        of("dropout", noise_shape=(3, 1, 8)), (3, 6, 8), "repeated_rows_dropout", "repeated_rows_dropout"
    ),
    "dropout, mask of runs": Case(
        of("dropout", noise_shape=(3, 6, 1)), (3, 6, 8), "segments_dropout", "segments_dropout"
    ),
    "dropout, mask between": Case(of("dropout", noise_shape=(1, 6, 1)), (3, 6, 8), "mask", "mask"),
    "dropout1d": Case(of("dropout1d"), (3, 4, 5), "segments_dropout", "segments_dropout"),
    "dropout2d": Case(of("dropout2d"), (2, 8, 4, 5), "segments_dropout", "segments_dropout"),
    "dropout2d, channels last": Case(
        of("dropout2d"), (2, 8, 4, 5), "repeated_rows_dropout", "repeated_rows_dropout", turned=True
    ),
    "dropout3d": Case(of("dropout3d"), (2, 8, 4, 3, 5), "segments_dropout", "segments_dropout"),
    "alpha_dropout": Case(of("alpha_dropout"), (5, 70), "alpha_dropout", "alpha_dropout_derivative"),
    "feature_alpha_dropout": Case(
        of("feature_alpha_dropout"), (3, 4, 5), "segments_alpha_dropout", "segments_alpha_dropout_derivative"
    ),
    "feature_alpha_dropout, channels last": Case(
        of("feature_alpha_dropout"),
        (2, 8, 4, 5),
        "repeated_rows_alpha_dropout",
        "repeated_rows_alpha_dropout_derivative",
        turned=True,
    ),
    "gaussian_dropout": Case(of("gaussian_dropout"), (5, 70), "gaussian_dropout", "gaussian_dropout"),
    "gaussian_noise": Case(functools.partial(functional.gaussian_noise, std=0.3), (5, 70), "gaussian_noise", None),
    "drop_path": Case(of("drop_path"), (6, 5, 7), "segments_dropout", "segments_dropout"),
    "drop_path, unscaled": Case(of("drop_path", scale_by_keep=False), (6, 5, 7), "segments_drop", "segments_drop"),
    "stochastic_depth": Case(of("stochastic_depth", mode="row"), (6, 5, 7), "segments_dropout", "segments_dropout"),
    "stochastic_depth, of batches": Case(
        of("stochastic_depth", mode="batch"), (6, 5, 7), "segments_dropout", "segments_dropout"
    ),
    "variational_dropout": Case(of("variational_dropout"), (5, 3, 8), "repeated_rows_dropout", "repeated_rows_dropout"),
    "variational_dropout, batch first": Case(
        of("variational_dropout", batch_first=True), (3, 5, 8), "repeated_rows_dropout", "repeated_rows_dropout"
    ),
    "drop_block2d": Case(of("drop_block2d", block_size=3), (2, 3, 7, 6), "mask", None),
    "drop_block3d": Case(of("drop_block3d", block_size=3), (1, 2, 5, 6, 7), "mask", None),
    "drop_connect": Case(connected, (7, 12), "dropout", "dropout"),
    "embedding_dropout": Case(embedded, (7, 6), "mask", "mask"),
}
IN_PLACE = [
    name for name in CASES if "inplace" in inspect.signature(getattr(functional, name.split(",")[0])).parameters
]
