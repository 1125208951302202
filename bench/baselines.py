"""The variants and their baselines: torch's operator where it has one, else the reference library's published formula.

Each provider takes an input and returns a result; both are in training mode, with p = `P`.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as native

from fastdrop import functional as ours

P: Final = 0.1
BLOCK_SIZE: Final = 7
WORDS: Final = 7 * torch.arange(128)  # of a batch

Provider = Callable[[Tensor], Tensor]


class Pair(NamedTuple):
    """A variant and its baseline."""

    source: str  # of the baseline
    shape: Callable[[int], tuple[int, ...]]  # elements -> shape of the input
    fastdrop: Provider
    baseline: Provider
    faster: float | None  # target: times faster than the baseline at 1M elements; None: the baseline is not torch's
    memory_format: torch.memory_format = torch.contiguous_format


def flat(size: int) -> tuple[int, ...]:
    """Return a vector."""
    return (size,)


def matrix(size: int) -> tuple[int, ...]:
    """Return (rows of a batch, features)."""
    return 16, size // 16


def images(size: int) -> tuple[int, ...]:
    """Return (N, C, H, W)."""
    side = 8 if size < 1 << 16 else 32
    return size // (64 * side * side), 64, side, side


def sequences(size: int) -> tuple[int, ...]:
    """Return (batch, time, features)."""
    return size // (16 * 256), 16, 256


def vocabulary(size: int) -> tuple[int, ...]:
    """Return (words, features)."""
    return size // 64, 64


def scaled_mask(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a mask as these libraries make it: drawn, and divided by 1 - p."""
    return x.new_empty(shape).bernoulli_(1 - P).div_(1 - P)


def drop_path(x: Tensor) -> Tensor:
    """Compute timm.layers.drop.drop_path."""
    return x * scaled_mask(x, (len(x), *[1] * (x.dim() - 1)))


def locked_dropout(x: Tensor) -> Tensor:
    """Compute LockedDropout of AWD-LSTM, batch first."""
    return x * scaled_mask(x, (len(x), 1, x.shape[2]))


def drop_block(x: Tensor) -> Tensor:
    """Compute torchvision.ops.drop_block2d."""
    (n, c, h, w), size = x.shape, min(BLOCK_SIZE, *x.shape[2:])
    gamma = P * h * w / (size**2 * (h - size + 1) * (w - size + 1))
    noise = torch.empty((n, c, h - size + 1, w - size + 1)).bernoulli_(gamma)
    noise = native.max_pool2d(native.pad(noise, [size // 2] * 4), size, stride=1, padding=size // 2)
    keep = 1 - noise
    return x * keep * (keep.numel() / (1e-6 + keep.sum()))


def drop_connect(x: Tensor) -> Tensor:
    """Apply a linear layer whose weight, x, is dropped by torch's dropout."""
    return native.linear(x.new_ones(1, x.shape[1]), native.dropout(x, P))


def embedding_dropout(weight: Tensor) -> Tensor:
    """Compute embedded_dropout of AWD-LSTM: with a masked copy of the weight."""
    return native.embedding(WORDS % len(weight), scaled_mask(weight, (len(weight), 1)) * weight)


def gaussian_dropout(x: Tensor) -> Tensor:
    """Compute Keras' GaussianDropout by torch's operators."""
    return x * torch.empty_like(x).normal_(1, (P / (1 - P)) ** 0.5)


PAIRS: Final = {
    "dropout": Pair("torch", flat, lambda x: ours.dropout(x, P), lambda x: native.dropout(x, P), 5),
    "dropout, in place": Pair(
        "torch",
        flat,
        lambda x: ours.dropout(x * 1, P, inplace=True),
        lambda x: native.dropout(x * 1, P, inplace=True),
        None,
    ),
    "dropout1d": Pair("torch", sequences, lambda x: ours.dropout1d(x, P), lambda x: native.dropout1d(x, P), 2),
    "dropout2d": Pair("torch", images, lambda x: ours.dropout2d(x, P), lambda x: native.dropout2d(x, P), 2),
    "dropout2d, p = 0.5": Pair("torch", images, lambda x: ours.dropout2d(x), lambda x: native.dropout2d(x), 2),
    "dropout2d, channels_last": Pair(
        "torch", images, lambda x: ours.dropout2d(x, P), lambda x: native.dropout2d(x, P), 2, torch.channels_last
    ),
    "alpha_dropout": Pair(
        "torch", flat, lambda x: ours.alpha_dropout(x, P, True), lambda x: native.alpha_dropout(x, P, True), 5
    ),
    "feature_alpha_dropout": Pair(
        "torch",
        images,
        lambda x: ours.feature_alpha_dropout(x, P, True),
        lambda x: native.feature_alpha_dropout(x, P, True),
        2,
    ),
    "variational_dropout": Pair(
        "AWD-LSTM", sequences, lambda x: ours.variational_dropout(x, P, batch_first=True), locked_dropout, None
    ),
    "dropout_add": Pair("torch", flat, lambda x: ours.dropout_add(x, x, P), lambda x: native.dropout(x, P) + x, 5),
    "drop_path": Pair("timm", matrix, lambda x: ours.drop_path(x, P, True), drop_path, None),
    "drop_block2d": Pair("torchvision", images, lambda x: ours.drop_block2d(x, P, BLOCK_SIZE), drop_block, None),
    "drop_connect": Pair(
        "torch", matrix, lambda x: ours.drop_connect(x.new_ones(1, x.shape[1]), x, None, P), drop_connect, 5
    ),
    "embedding_dropout": Pair(
        "AWD-LSTM", vocabulary, lambda x: ours.embedding_dropout(WORDS % len(x), x, P), embedding_dropout, None
    ),
    "gaussian_dropout": Pair("Keras", flat, lambda x: ours.gaussian_dropout(x, P), gaussian_dropout, None),
    "gaussian_noise": Pair(
        "Keras", flat, lambda x: ours.gaussian_noise(x, P), lambda x: x + torch.empty_like(x).normal_(0, P), None
    ),
}
