"""Seeds in the two runs of a checkpoint: the second run is given those that the first one drew.

torch.utils.checkpoint runs a function again in the backward. It restores torch's own generators for that where it is
asked to, and never a user's. The seeds are kept by the object that stands for the checkpoint in both runs.
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import torch
from torch._C import _current_graph_task_id
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch.utils import checkpoint

from fastdrop._keys.key import Seed

FILE: Final = checkpoint.__file__
FORWARD: Final = checkpoint.CheckpointFunction.forward.__code__
BACKWARD: Final = checkpoint.CheckpointFunction.backward.__code__
ADVICE: Final = "give a seed in place of the generator"


class _Memory:
    """The seeds that a first run drew of each generator, and how many of them each further run has been given."""

    def __init__(self) -> None:
        self.seeds: defaultdict[torch.Generator | None, list[Seed]] = defaultdict(list)
        self.given: defaultdict[tuple[Any, torch.Generator | None], int] = defaultdict(int)

    def next(self, run: Any, generator: torch.Generator | None) -> Seed | None:
        """Return the next seed of a generator in a further run, None where the first run drew no more."""
        seeds, index = self.seeds[generator], self.given[run, generator]
        self.given[run, generator] += 1
        return seeds[index] if index < len(seeds) else None


def repeated(generator: torch.Generator | None, draw: Callable[[torch.Generator | None], Seed]) -> Seed:
    """Return what is drawn from a generator (None: torch's), or in a checkpoint's second run what the first drew."""
    if generator is not None and not _may_be_checkpointed():
        return draw(generator)
    first_runs, second = _runs()
    if generator is None or _is_torchs(generator):
        seed = draw(generator)  # in a second run too: what else is drawn there has to find the generator as it was
        if second is not None:
            before = second[0].next(second[1], generator)
            if before is not None and seed not in second[0].seeds[generator]:
                seed = before
    elif second is not None:
        before = second[0].next(second[1], generator)
        if before is None:
            raise RuntimeError(
                f"a checkpoint's second run needs the seeds that its first run drew from a generator, but got to one "
                f"that the first run was not seen to draw: {ADVICE}"
            )
        seed = before
    else:
        seed = draw(generator)
        if not first_runs and _current_graph_task_id() != -1 and torch.is_grad_enabled():
            warnings.warn(
                f"a seed is drawn from a generator in a backward pass that records: if this is the second run of a "
                f"checkpoint, its mask is not that of the first run; {ADVICE}, or use torch.utils.checkpoint",
                stacklevel=2,
            )
    for memory in first_runs:
        memory.seeds[generator].append(seed)
    return seed


def refuse(generator: torch.Generator) -> None:
    """Raise an error in a checkpoint, where a draw from a user's generator cannot be repeated."""
    if _may_be_checkpointed() and not _is_torchs(generator) and _runs() != ([], None):
        raise RuntimeError(
            f"dropout with a generator under a transform of torch.func cannot be repeated by a checkpoint: {ADVICE}"
        )


def _is_torchs(generator: torch.Generator) -> bool:
    return generator is torch.default_generator or generator in torch.cuda.default_generators


def _may_be_checkpointed() -> bool:
    """Return whether it is worthwhile to look: a first run records no graph or has hooks, a second is in a backward."""
    return (
        not torch.is_grad_enabled()
        or _current_graph_task_id() != -1
        or _top_saved_tensors_default_hooks(False) is not None
    )


def _runs() -> tuple[list[_Memory], tuple[_Memory, Any] | None]:
    """Return the memories of checkpoints in whose first runs the caller is, and of that whose second run it is in.

    What is around a second run does not count: it has been there in the first run too. With a second run comes what
    tells it from further ones. Torch offers no way to ask for this, so the stack of calls is searched.
    """
    first_runs: list[_Memory] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == FILE:
            names = frame.f_locals
            if code is FORWARD:
                first_runs.append(_memory_of(names["ctx"]))
            elif code is BACKWARD and "outputs" not in names:  # else its own backward runs, and calls hooks maybe
                return first_runs, (_memory_of(names["ctx"]), _current_graph_task_id())
            elif code.co_name == "unpack_hook" and "gid" in names:
                return first_runs, (_memory_of(names["frame"]), names["gid"])
            elif "gen" in names:  # in checkpoint, from torch 2.14 on in what that calls
                first_runs.append(_memory_of(names["gen"].gi_frame.f_locals["new_frame"]))
        frame = frame.f_back
    return first_runs, None


def _memory_of(checkpoint: Any) -> _Memory:
    """Return the memory of a checkpoint: of the Function's context, or of what stands for it without reentrancy."""
    memory: _Memory = vars(checkpoint).setdefault("_fastdrop_memory", _Memory())
    return memory
