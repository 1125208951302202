"""Where seeds come from when the user gives none: torch's generators, so that torch.manual_seed reproduces masks."""

import ctypes
import threading

import torch

SEED_END = (1 << 63) - 1

_own = threading.local()  # a tensor a thread: a shared one gave two threads one seed


def draw(generator: torch.Generator | None = None) -> int:
    """Return 63 fresh bits of a generator (default: torch's CPU generator), which advances by one draw."""
    if generator is not None and generator.device.type != "cpu":
        drawn = torch.empty((), dtype=torch.int64, device=generator.device)
        return int(drawn.random_(generator=generator))
    try:
        cell, value = _own.seed
    except AttributeError:
        with torch.inference_mode(False):  # else it could be written in inference mode only
            cell = torch.empty((), dtype=torch.int64, device="cpu")
        cell, value = _own.seed = cell, ctypes.c_int64.from_address(cell.data_ptr())
    if generator is None:
        cell.random_()  # the keyword would cost a tenth of a microsecond, and item() another
    else:
        cell.random_(generator=generator)
    seed: int = value.value
    return seed


def draw_tensor(generator: torch.Generator | None = None) -> torch.Tensor:
    """Return fresh bits as an int64 tensor, by an operator that vmap knows: one a row, one for all, or an error."""
    return torch.randint(SEED_END, (), dtype=torch.int64, device="cpu", generator=generator)
