"""The `training` flags of modules, set for a while: by blocks that may overlap, in one thread or in several."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

from torch.nn import Module

__all__ = ["holding"]

_lock = threading.RLock()  # reentrant: a signal handler may interrupt


class _Block:
    """The flags that one block wants."""

    def __init__(self, flags: Sequence[tuple[Module, bool]]) -> None:
        self.modules = [module for module, _ in flags]  # referenced, so that their ids stay theirs
        self.wanted = {id(module): training for module, training in flags}
        self.thread = threading.get_ident()


_blocks: list[_Block] = []  # the active ones; where they overlap, the newest has precedence
_before: dict[int, bool] = {}  # the flag that a module had before the first of them


@contextlib.contextmanager
def holding(flags: Sequence[tuple[Module, bool]]) -> Iterator[None]:
    """Set flags during a block; afterwards those of other active blocks apply, or the original ones are restored."""
    block = _Block(flags)
    try:
        with _lock:
            _check_other_threads(block)
            for module in block.modules:
                _before.setdefault(id(module), module.training)
            _blocks.append(block)
            _set(block.modules)
        yield
    finally:
        with _lock:
            if block in _blocks:
                _blocks.remove(block)
                _set(block.modules)


def _check_other_threads(block: _Block) -> None:
    """Raise if another thread's block wants another flag for the same module."""
    others = [other.wanted for other in _blocks if other.thread != block.thread]
    for module in block.modules:
        wanted = block.wanted[id(module)]
        if any(other.get(id(module), wanted) != wanted for other in others):
            raise RuntimeError(
                f"another thread is in mc_dropout with training={not wanted} for a {type(module).__name__} that needs "
                f"{wanted} here: give both the same modules=, or each thread a copy of the model"
            )


def _set(modules: Sequence[Module]) -> None:
    """Set the flags of modules as the newest active block wants them, or restore the original ones."""
    flags = []
    for module in modules:
        wanted = [block.wanted[id(module)] for block in _blocks if id(module) in block.wanted]
        flags.append(wanted[-1] if wanted else _before.pop(id(module)))
    for module, training in zip(modules, flags, strict=True):
        module.training = training


def _renew() -> None:
    """Give a forked child an unlocked lock, and end the blocks of threads that do not exist in it."""
    global _lock
    _lock = threading.RLock()
    for block in [block for block in _blocks if block.thread != threading.get_ident()]:
        _blocks.remove(block)
        _set(block.modules)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)
