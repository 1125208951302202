"""Where seeds come from: the user, or torch's generators, so that torch.manual_seed reproduces masks.

A seed is 64 bits as a signed int, or an int64 tensor of one element in a GPU's memory: the kernel reads it when it
runs, so there is no synchronization, and a captured CUDA graph draws a new mask at every replay.
"""

import ctypes
import threading
from typing import Final

import torch

from fastdrop._keys.arguments import TWO_64, signed64
from fastdrop._keys.key import Seed
from fastdrop_kernels.locks import held_by_forks

SEED_END = (1 << 63) - 1  # the largest exclusive bound of torch.randint
PER_DRAW = 4  # a CUDA generator's offset counts the numbers it has given, in steps of four
ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: neighbouring offsets give distant seeds, and no two are equal

Cell = tuple[torch.Tensor, ctypes.c_int64]  # a tensor that seeds are drawn into, and its memory

# Cells that are not in use. A draw takes one out and puts it back, each by one atomic call: two threads, or a signal
# handler and the code that it interrupts, would otherwise share a cell and get the same seed.
_cells: Final[list[Cell]] = []
_advancing: Final = held_by_forks(threading.RLock())  # a CUDA generator is read and set by two calls


def as_kernel_seed(x: torch.Tensor, seed: Seed) -> Seed:
    """Return a seed in the form that x's kernel reads: a tensor only if it is in the memory of x's GPU."""
    if isinstance(seed, torch.Tensor) and seed.is_cuda and seed.device == x.device:
        return seed
    return int(seed)


def draw(generator: torch.Generator | None = None) -> Seed:
    """Return a fresh seed from a generator (default: torch's CPU generator), which advances by one draw."""
    if generator is not None and generator.device.type != "cpu":
        return _draw_cuda(generator) if generator.device.type == "cuda" else int(_draw_tensor(generator))
    try:
        cell, value = both = _cells.pop()
    except IndexError:
        cell, value = both = _new_cell()
    if generator is None:
        cell.random_(SEED_END)  # the keyword would cost a tenth of a microsecond, and item() another
    else:
        cell.random_(SEED_END, generator=generator)
    seed: int = value.value
    _cells.append(both)
    return seed


def _new_cell() -> Cell:
    value = ctypes.c_int64()
    with torch.inference_mode(False):  # else it could be written in inference mode only
        return torch.frombuffer(value, dtype=torch.int64), value  # torch.empty's has no memory under functionalize


def _draw_cuda(generator: torch.Generator) -> Seed:
    """Return a seed derived from the generator's seed and offset, which needs no kernel and no synchronization."""
    if torch.cuda.is_current_stream_capturing():  # a seed drawn now would be that of every replay
        return _draw_tensor(generator)
    if _advancing._is_owned():  # type: ignore[attr-defined]  # in a signal handler that interrupted those two calls
        return draw()
    with _advancing:
        offset = generator.get_offset()
        generator.set_offset(offset + PER_DRAW)
    return signed64((generator.initial_seed() + ODD * offset) % TWO_64, "seed")


def _draw_tensor(generator: torch.Generator) -> torch.Tensor:
    return torch.randint(SEED_END, (), device=generator.device, generator=generator)


def fold_in(seed: Seed | None, index: int) -> Seed | None:
    """Return the seed of part `index` of what a seed was given for; that of part 0 is the given seed itself."""
    if seed is None or index == 0:
        return seed
    step = ODD * index % TWO_64
    return seed + signed64(step, "seed") if isinstance(seed, torch.Tensor) else (seed + step) % TWO_64
