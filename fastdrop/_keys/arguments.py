"""Checks of arguments, with torch's own error texts where torch has them."""

import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch

TWO_64 = 1 << 64
LONGEST: Final = 80  # characters that an error text shows of a value
NUMBERS: Final = (float, int, np.number, np.bool_, torch.SymFloat, torch.SymInt)  # what torch takes for a float


def shown(value: Any) -> str:
    """Return a description of a value for an error text, in one line: its type, and its shape or shortened value."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if isinstance(shape, tuple):  # of torch, NumPy, pandas ...
        return f"{kind} of shape {tuple(shape)}"
    return f"{kind}: {cut(value, reprlib.repr)}"


def cut(value: Any, text: Callable[[Any], str] = str) -> str:
    """Return the text of a value, truncated so that it fits in a line with other words."""
    try:
        line = " ".join(text(value)[: 2 * LONGEST].split())
    except ValueError:  # an integer of more digits than Python prints
        return "..."
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def check_float(value: Any, what: str) -> float:
    """Return a number as a float, or raise torch's error; also for a tensor that requires grad, which would be lost."""
    if type(value) is float:
        return value
    if isinstance(value, torch.Tensor):
        taken = value.dim() == 0 and not value.requires_grad
    else:
        taken = isinstance(value, NUMBERS)
    if not taken:
        raise TypeError(f"{what} must be float, not {type(value).__name__}")
    return float(value)


def check_probability(p: Any, function: str = "dropout") -> float:
    """Return p as a float in [0, 1]; torch's errors otherwise, of the types that torch's function raises."""
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    probability: float = p if type(p) is float else check_float(p, f"{function}(): argument 'p' (position 2)")
    if probability != probability:  # NaN passes torch's first check and fails in its operator
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    return probability


def check_rate(rate: Any) -> float:
    """Return a rate in [0, 1] unchanged, or raise Keras's error."""
    if not 0 <= rate <= 1:
        raise ValueError(
            f"Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate={rate}"
        )
    check_float(rate, "rate")
    return rate  # type: ignore[no-any-return]


def check_std(std: Any) -> float:
    """Return a standard deviation as a float: finite, and at least 0."""
    number = check_float(std, "std")
    if not 0.0 <= number < math.inf:
        raise ValueError(f"std has to be at least 0 and finite, but got {std}")
    return number


def check_below_1(p: Any, who: str) -> float:
    """Return p as a float in [0, 1), where the noise's variance p / (1 - p) is finite."""
    probability = check_probability(p)
    if probability == 1.0:
        raise ValueError(f"{who} needs p below 1, as its noise has the variance p / (1 - p), but got 1.0")
    return probability


def check_mode(mode: Any) -> str:
    """Return one of stochastic depth's two modes, or raise torchvision's error."""
    if mode not in ("batch", "row"):
        raise ValueError(f"mode has to be either 'batch' or 'row', but got {cut(mode)}")
    return mode  # type: ignore[no-any-return]


def check_block_size(block_size: Any, *sides: int) -> int:
    """Return the side of a block, limited to the given sides, or raise torchvision's error."""
    side = min((integer(block_size, "block_size"), *sides))
    if side % 2 == 0:
        raise ValueError(f"block size should be odd. Got {side} which is even.")
    if side < 0:
        raise ValueError(f"block size should be at least 1, but got {side}")
    return side


def check_data_format(data_format: Any) -> str:
    """Return one of Keras's two orders of dimensions, or raise its error."""
    standard = "channels_last" if data_format is None else str(data_format).lower()
    if standard not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of {'channels_first', 'channels_last'}. "
            f"Received: data_format={cut(standard)}"
        )
    return standard


def check_drop_probability(p: Any, end: str = "") -> float:
    """Return p as a float in [0, 1]; torchvision's errors otherwise, which end differently."""
    if p < 0.0 or p > 1.0:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}{end}")
    return check_probability(p)


def integer(value: Any, name: str) -> int:
    """Return any kind of integer as an int, and not as a subclass, which Numba would take for another type."""
    if type(value) is int or isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]  # unchanged: in a graph it may stand for any number
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} has to be an integer, but got {shown(value)}") from None


def check_word(value: Any) -> int:
    """Return the index of a word as an int that a tensor can hold."""
    word = integer(value, "value")
    if not -TWO_64 <= 2 * word < TWO_64:
        raise ValueError(f"value has to be at least -2**63 and below 2**63, but got {cut(word)}")
    return word


def signed64(value: Any, name: str) -> int:
    """Return an unsigned 64-bit integer's bits as a signed one, the form that kernels take."""
    number = integer(value, name)
    if not 0 <= number < TWO_64:
        raise ValueError(f"{name} has to be between 0 and 2**64 - 1, but got {cut(number)}")
    return number - TWO_64 if number >= TWO_64 >> 1 else number


def check_generator(generator: Any, seed: Any = None) -> torch.Generator | None:
    """Return a generator, or None for None, after checking its type and that no seed is given with it."""
    if generator is None:
        return None
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator has to be a torch.Generator, but got {shown(generator)}")
    if seed is not None:
        raise ValueError("seed and generator exclude each other: a mask comes from one of them, but got both")
    return generator


def check_seed(seed: Any) -> int | torch.Tensor:
    """Return a given seed in the kernels' form: 64 bits as a signed int, or an int64 tensor of one element."""
    if not isinstance(seed, torch.Tensor):
        return signed64(seed, "seed")
    if seed.dtype != torch.int64 or seed.numel() != 1:
        shape = tuple(seed.shape)
        raise TypeError(
            f"seed has to be an int or an int64 tensor of one element, but got {seed.dtype} of shape {shape}"
        )
    return seed


def check_key(seed: Any, offset: Any, generator: Any) -> tuple[int | torch.Tensor | None, int]:
    """Return a key's seed, or None if it is to be drawn, and its offset, in the kernels' form."""
    chosen = None if seed is None else check_seed(seed)
    if generator is not None:
        check_generator(generator, seed)
    return chosen, signed64(offset, "offset")


def check_range(start: Any, count: int) -> int:
    """Return the stream index that `count` elements start at, as a signed 64-bit integer."""
    first = integer(start, "start")
    if not 0 <= first <= (TWO_64 >> 1) - count:
        raise ValueError(f"start has to be at least 0 and start + elements at most 2**63, but got {first} + {count}")
    return min(first, (TWO_64 >> 1) - 1)  # it is more for no elements only


def check_noise_sizes(noise_shape: Any) -> tuple[int | None, ...]:
    """Return the given shape of a mask, with None for the input's size."""
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Iterable):
        raise TypeError(f"noise_shape has to be a sequence of integers and None, but got {shown(noise_shape)}")
    sizes = tuple(None if size is None else integer(size, "an entry of noise_shape") for size in noise_shape)
    if any(size is not None and size < 0 for size in sizes):
        raise ValueError(f"entries of noise_shape have to be None, 1 or the input's size, but got {cut(sizes)}")
    return sizes


def check_noise_shape(noise_shape: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a mask for a tensor of this shape: each entry is 1, the size, or None for the size."""
    sizes = check_noise_sizes(noise_shape)
    if len(sizes) != len(shape):
        raise ValueError(
            f"noise_shape has to have {len(shape)} entries, as the input's shape {tuple(shape)} has, "
            f"but got {len(sizes)}: {cut(sizes)}"
        )
    noise = tuple(of_input if size is None else size for size, of_input in zip(sizes, shape, strict=True))
    if any(size not in (1, of_input) for size, of_input in zip(noise, shape, strict=True)):
        raise ValueError(
            f"entries of noise_shape have to be None, 1 or the input's {tuple(shape)}, but got {cut(sizes)}"
        )
    return noise
