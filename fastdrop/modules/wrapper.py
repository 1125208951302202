"""The base class of modules that drop within another module, whose names of parameters do not change."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import torch

from fastdrop.modules.keyed import Keyed

Self = TypeVar("Self", bound="Wrapper")

REGISTRIES: Final = ("_parameters", "_buffers", "_modules")


class _Registry:
    """A registry of the currently wrapped module, as an attribute of the wrapper."""

    def __set_name__(self, _: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: "Wrapper | None", _: type | None = None) -> Any:
        return self if wrapper is None else getattr(wrapper.wrapped, self.name)


class Wrapper(Keyed):
    """A module around another one, which drops by a `training` of its own.

    As a child, the other module would prefix every parameter's name with its own: a state_dict would no longer fit. It
    is an attribute instead, `wrapped`, and its registries of parameters, buffers and children are shared. So names are
    the same in state_dict, named_parameters, torch.func.functional_call, optimizers and checkpoints. `modules()` yields
    both, and each can be replaced by its name.

    A tensor or module that is read, set or deleted here is the wrapped module's. The wrapper's own attributes, such as
    `p`, take precedence: one of the same name is in the registries, and an attribute there only.
    """

    wrapped: torch.nn.Module
    _parameters, _buffers, _modules, _non_persistent_buffers_set = (_Registry() for _ in range(4))

    def __init__(self, wrapped: torch.nn.Module, generator: torch.Generator | None) -> None:
        super().__init__()
        self._check(wrapped)
        for name, value in vars(Wrapper).items():
            if isinstance(value, _Registry):
                del vars(self)[name]  # of torch's constructor
        vars(self).update(wrapped=wrapped, training=wrapped.training, generator=generator)

    def _check(self, wrapped: Any) -> None:
        """Raise if this class cannot wrap that module."""
        if not isinstance(wrapped, torch.nn.Module) or isinstance(wrapped, torch.jit.ScriptModule):
            kind = type(wrapped).__name__
            raise TypeError(f"{type(self).__name__} needs a torch.nn.Module that is not scripted, but got {kind}")

    def _has(self, name: str) -> bool:
        """Return whether a parameter, buffer or child of that name is registered, be it None."""
        return any(name in getattr(self, registry) for registry in REGISTRIES)

    def __getattr__(self, name: str) -> Any:
        if "wrapped" in vars(self):  # else it is being constructed
            value = getattr(self.wrapped, name, self)
            if isinstance(value, torch.Tensor) or self._has(name):
                return value
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "parametrizations":
            raise TypeError(f"what {type(self).__name__} wraps can be parametrized, not itself: name its `wrapped`")
        is_own = name in vars(self) or hasattr(type(self), name)
        if name == "wrapped" and isinstance(value, torch.nn.Module):
            if name in self._modules:
                raise AttributeError(f"wrapped is a child of {type(self.wrapped).__name__} too: set it there")
            self._check(value)
            object.__setattr__(self, name, value)
        elif isinstance(value, torch.nn.Parameter | torch.nn.Module) or (
            not is_own and (isinstance(value, torch.Tensor) or self._has(name))
        ):
            setattr(self.wrapped, name, value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name) if name in vars(self) else delattr(self.wrapped, name)

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """Register it with the wrapped module."""
        self.wrapped.register_parameter(name, param)

    def register_buffer(self, name: str, tensor: torch.Tensor | None, persistent: bool = True) -> None:
        """Register it with the wrapped module."""
        self.wrapped.register_buffer(name, tensor, persistent)

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` here and in the wrapped module, which may override `train`."""
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
        """Yield this module, its children and the wrapped one, left out where parameters have all their names."""
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


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the innermost module of nested wrappers; any other module itself."""
    while isinstance(module, Wrapper):
        module = module.wrapped
    return module
