"""Seeds under activation checkpointing: the recomputation reuses those that the first run drew.

torch.utils.checkpoint recomputes a function in the backward. It restores torch's own generators for that if it is asked
to, but never a user's. The seeds are stored on the object that represents the checkpoint in both runs.
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
    """The seeds that a first run drew from each generator, and how many of them each recomputation has reused."""

    def __init__(self) -> None:
        self.seeds: defaultdict[torch.Generator | None, list[Seed]] = defaultdict(list)
        self.given: defaultdict[tuple[Any, torch.Generator | None], int] = defaultdict(int)

    def next(self, run: Any, generator: torch.Generator | None) -> Seed | None:
        """Return the next seed of a generator in a recomputation, None if the first run drew no more."""
        seeds, index = self.seeds[generator], self.given[run, generator]
        self.given[run, generator] += 1
        return seeds[index] if index < len(seeds) else None


def repeated(generator: torch.Generator | None, draw: Callable[[torch.Generator | None], Seed]) -> Seed:
    """Return a seed drawn from a generator (None: torch's), or in a recomputation the one that the first run drew."""
    if generator is not None and not _may_be_checkpointed():
        return draw(generator)
    first_runs, second = _runs()
    if generator is None or _is_torchs(generator):
        seed = draw(generator)  # in a recomputation too: other draws there need the same state of the generator
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
        if not first_runs and in_backward() and torch.is_grad_enabled():
            warnings.warn(
                f"a seed is drawn from a generator in a backward pass that records: if this is the second run of a "
                f"checkpoint, its mask is not that of the first run; {ADVICE}, or use torch.utils.checkpoint",
                stacklevel=2,
            )
    for memory in first_runs:
        memory.seeds[generator].append(seed)
    return seed


def refuse(generator: torch.Generator) -> None:
    """Raise in a checkpoint, if a draw from a user's generator could not be repeated."""
    if _may_be_checkpointed() and not _is_torchs(generator) and _runs() != ([], None):
        raise RuntimeError(
            f"dropout with a generator under a transform of torch.func cannot be repeated by a checkpoint: {ADVICE}"
        )


def in_backward() -> bool:
    """Return whether this thread runs a backward."""
    return _current_graph_task_id() != -1


def _is_torchs(generator: torch.Generator) -> bool:
    return generator is torch.default_generator or generator in torch.cuda.default_generators


def _may_be_checkpointed() -> bool:
    """Return quickly whether this may be a checkpoint: no grad or saved-tensor hooks at first, then a backward."""
    return not torch.is_grad_enabled() or in_backward() or _top_saved_tensors_default_hooks(False) is not None


def _runs() -> tuple[list[_Memory], tuple[_Memory, Any] | None]:
    """Return the memories of the checkpoints in whose first runs the caller is, and that of a recomputation around it.

    Whatever is outside of a recomputation does not count: it was outside of the first run too. With a recomputation's
    memory comes an identifier of this recomputation. Torch has no interface for this, so the call stack is searched.
    """
    first_runs: list[_Memory] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == FILE:
            names = frame.f_locals
            if code is FORWARD:
                first_runs.append(_memory_of(names["ctx"]))
            elif code is BACKWARD and "outputs" not in names:  # else its own backward runs, and may call hooks
                return first_runs, (_memory_of(names["ctx"]), _current_graph_task_id())
            elif code.co_name == "unpack_hook" and "gid" in names:
                return first_runs, (_memory_of(names["frame"]), names["gid"])
            elif "gen" in names:  # in checkpoint, from torch 2.14 on in what that calls
                first_runs.append(_memory_of(names["gen"].gi_frame.f_locals["new_frame"]))
        frame = frame.f_back
    return first_runs, None


def _memory_of(checkpoint: Any) -> _Memory:
    """Return the memory of a checkpoint: of the reentrant Function's context, or of the non-reentrant form's frame."""
    memory: _Memory = vars(checkpoint).setdefault("_fastdrop_memory", _Memory())
    return memory
