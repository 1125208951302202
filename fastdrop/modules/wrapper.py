"""What the modules of the family that drop within another module share: all names stay as they were without them."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import torch

from fastdrop.modules.keyed import Keyed

Self = TypeVar("Self", bound="Wrapper")

REGISTRIES: Final = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class Wrapper(Keyed):
    """A module around another one, which drops by a `training` of its own.

    As a child, the other module would put its name into that of every parameter: a state_dict would no longer fit. It
    is an attribute instead, `wrapped`, and the two have one registry of parameters, buffers and children. So names are
    the same in state_dict, named_parameters, torch.func.functional_call, optimizers and checkpoints, and a parameter
    that is set on one, tied or moved, is so on the other. `modules()` has both.
    """

    wrapped: torch.nn.Module

    def __init__(self, wrapped: torch.nn.Module, generator: torch.Generator | None) -> None:
        super().__init__()
        if not isinstance(wrapped, torch.nn.Module) or isinstance(wrapped, torch.jit.ScriptModule):
            kind = type(wrapped).__name__
            raise TypeError(f"{type(self).__name__} needs a torch.nn.Module that is not scripted, but got {kind}")
        vars(self).update({name: vars(wrapped)[name] for name in REGISTRIES}, wrapped=wrapped)
        self.training, self.generator = wrapped.training, generator

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` here and in the wrapped module, which may have its own way to do so."""
        self.wrapped.train(mode)
        self.training = mode
        return self

    def apply(self: Self, fn: Callable[[torch.nn.Module], Any]) -> Self:
        """Apply a function to the wrapped module with all its children, and to this one."""
        self.wrapped.apply(fn)
        fn(self)
        return self

    def named_modules(
        self, memo: set[torch.nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, torch.nn.Module]]:
        """Yield this module, its children and the wrapped one; not that where a parameter is to have all its names."""
        memo = set() if memo is None else memo
        yield from super().named_modules(memo, prefix, remove_duplicate)
        if remove_duplicate:
            yield from self.wrapped.named_modules(memo, f"{prefix}.wrapped" if prefix else "wrapped")

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the wrapped module's."""
        return self.wrapped.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.wrapped._load_from_state_dict(*args)

    def _apply(self: Self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self.wrapped._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        """Show the wrapped module; its children follow as this one's."""
        return f"{type(self.wrapped).__name__}({self.wrapped.extra_repr()})"
