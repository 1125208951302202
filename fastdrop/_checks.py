"""Checks of arguments, with torch's own texts where torch has them."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch

TWO_64 = 1 << 64


def check_probability(p: Any) -> float:
    """Return p as a float in [0, 1]; torch's errors otherwise, of the types that torch raises."""
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    probability = float(p)
    if probability != probability:  # NaN passes torch's first check, and fails in its operator
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    return probability


def check_rate(rate: Any) -> float:
    """Return a rate in [0, 1] as it is, or raise Keras's error, with which layers under its names begin."""
    if not 0 <= rate <= 1:
        raise ValueError(
            f"Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate={rate}"
        )
    return rate  # type: ignore[no-any-return]


def check_data_format(data_format: Any) -> str:
    """Return one of Keras's two orders of dimensions, or raise its error."""
    standard = "channels_last" if data_format is None else str(data_format).lower()
    if standard not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of {'channels_first', 'channels_last'}. "
            f"Received: data_format={standard}"
        )
    return standard


def check_drop_probability(p: Any, end: str = "") -> float:
    """Return p as a float in [0, 1]; torchvision's errors otherwise, which end differently."""
    if p < 0.0 or p > 1.0:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}{end}")
    return check_probability(p)


def integer(value: Any, name: str) -> int:
    """Return what is an integer of any kind as an int."""
    if isinstance(value, int | torch.SymInt):
        return value  # type: ignore[return-value]  # as it is: in a graph it may stand for any number
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} has to be an integer, but got {type(value).__name__}: {value!r}") from None


def signed64(value: Any, name: str) -> int:
    """Return an unsigned 64-bit integer's bits as a signed one, the form that kernels take."""
    number = integer(value, name)
    if not 0 <= number < TWO_64:
        raise ValueError(f"{name} has to be between 0 and 2**64 - 1, but got {number}")
    return number - TWO_64 if number >= TWO_64 >> 1 else number


def check_generator(generator: Any, seed: Any) -> None:
    """Raise where a generator is none, or comes together with a seed."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator has to be a torch.Generator, but got {type(generator).__name__}: {generator!r}")
    if seed is not None:
        raise ValueError("seed and generator exclude each other: a mask comes from one of them, but got both")


def check_seed(seed: Any) -> int | torch.Tensor:
    """Return a given seed as the kernels take it: 64 bits as a signed int, or an int64 tensor of one element."""
    if not isinstance(seed, torch.Tensor):
        return signed64(seed, "seed")
    if seed.dtype != torch.int64 or seed.numel() != 1:
        shape = tuple(seed.shape)
        raise TypeError(
            f"seed has to be an int or an int64 tensor of one element, but got {seed.dtype} of shape {shape}"
        )
    return seed


def check_key(seed: Any, offset: Any, generator: Any) -> tuple[int | torch.Tensor | None, int]:
    """Return a key's seed, None where it is to be drawn, and its offset, in the forms that the kernels take."""
    chosen = None if seed is None else check_seed(seed)
    if generator is not None:
        check_generator(generator, seed)
    return chosen, signed64(offset, "offset")


def check_range(start: Any, count: int) -> int:
    """Return the stream index that `count` elements start at, as a signed 64-bit integer."""
    first = integer(start, "start")
    if not 0 <= first <= (TWO_64 >> 1) - count:
        raise ValueError(f"start has to be at least 0 and start + elements at most 2**63, but got {first} + {count}")
    return min(first, (TWO_64 >> 1) - 1)  # only of no elements is it more


def check_noise_shape(noise_shape: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a mask for a tensor of this shape: of each dimension 1, its size, or None for its size."""
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Iterable):
        raise TypeError(
            "noise_shape has to be a sequence of integers and None, "
            f"but got {type(noise_shape).__name__}: {noise_shape!r}"
        )
    sizes = tuple(None if size is None else integer(size, "an entry of noise_shape") for size in noise_shape)
    if len(sizes) != len(shape):
        raise ValueError(
            f"noise_shape has to have {len(shape)} entries, as the input's shape {tuple(shape)} has, but got {sizes}"
        )
    noise = tuple(of_input if size is None else size for size, of_input in zip(sizes, shape, strict=True))
    if any(size not in (1, of_input) for size, of_input in zip(noise, shape, strict=True)):
        raise ValueError(f"entries of noise_shape have to be None, 1 or the input's {tuple(shape)}, but got {sizes}")
    return noise
