"""Views of modules: objects that behave like a module with some of its tensors replaced, for one call only."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import Module, RNNBase

from fastdrop.modules.weights import Weight

Change = Callable[[torch.Tensor], torch.Tensor]


class Substitution:
    """Replacements of tensors, in effect for whatever runs on views of the modules that have them.

    Swapping them in the modules themselves, as `torch.func.functional_call` does, would expose them to other threads,
    and to code that saves or counts parameters meanwhile; and a hook that computes a weight would undo it.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by identity: a tied weight has several names
        self._changes: dict[int, tuple[Module, dict[str, Change]]] = {}  # of a module and its views, which share vars
        self._changed: dict[tuple[int, str], torch.Tensor] = {}

    def change(self, weight: Weight, change: Change) -> None:
        """Register a change of a weight, under all its names; once."""
        if weight.value is None:  # it is computed when it is read, or set by a hook
            self._changes.setdefault(id(vars(weight.owner)), (weight.owner, {}))[1][weight.name] = change
        elif id(weight.value) not in self._tensors:
            self._tensors[id(weight.value)] = weight.value, change(weight.value)

    def view(self, module: Module) -> Module:
        """Return a module's view."""
        own = vars(module)
        if "forward" in own or isinstance(module, torch.jit.ScriptModule):
            return self._unchanged(module)
        names: list[str] = []
        if not type(module).__module__.startswith(
            "torch.nn.modules."
        ):  # no forward of these reads an unregistered module
            names += [name for name, value in own.items() if isinstance(value, Module)]
        if id(own) in self._changes:
            names += self._changes[id(own)][1]
        is_bare = not (names or own.get("_parameters", True) or own["_modules"])
        return module if is_bare else View.of(module, self, frozenset(names))

    def _unchanged(self, module: Module) -> Module:
        """Return a module whose forward is bound to itself, so it has no view; raise if a weight in it is dropped."""
        is_changed = any(id(parameter) in self._tensors for parameter in module.parameters())
        if is_changed or any(id(vars(child)) in self._changes for child in module.modules()):
            raise TypeError(
                f"no weight of {type(module).__name__} can be dropped, as its forward is not its class's but its own: "
                "compile, script or hook what is around the DropConnect, not what is in it"
            )
        return module

    def seen(self, value: Any) -> Any:
        """Return the replacement of a registered tensor, or the view of a child."""
        if isinstance(value, Module):
            return self.view(value)
        found = self._tensors.get(id(value))
        return value if found is None else found[1]

    def read(self, module: Module, name: str) -> Any:
        """Return the value of another attribute; every read of a computed tensor gives the same one."""
        changed = self._changed.get((id(vars(module)), name))
        return self.assigned(module, name, getattr(module, name)) if changed is None else changed

    def assigned(self, module: Module, name: str, value: Any) -> Any:
        """Return the value of an attribute that was set, after its change."""
        key = id(vars(module))
        if not isinstance(value, torch.Tensor) or key not in self._changes or name not in self._changes[key][1]:
            return self.seen(value)
        changed = self._changed[key, name] = self._changes[key][1][name](value)
        return changed


class View:
    """A stand-in for a module in its methods and hooks: of its class, sharing its state, and equal to it."""

    __slots__ = ("__module", "__substitution")  # no conflict with names in the module's vars, which are shared
    __module: Module  # itself or, where substitutions are nested, another's view
    __substitution: Substitution

    @staticmethod
    def of(module: Module, substitution: Substitution, names: frozenset[str]) -> Module:
        """Return a module's view that replaces the named attributes, besides what is registered."""
        itself: Any = module
        while isinstance(itself, View):
            itself = itself.__module
        view: Module = object.__new__(_class_of(type(itself), names))  # type: ignore[arg-type]
        object.__setattr__(view, "__dict__", vars(itself))
        object.__setattr__(view, "_View__module", module)
        object.__setattr__(view, "_View__substitution", substitution)
        return view

    def __getattr__(self, name: str) -> Any:
        return self.__substitution.seen(getattr(self.__module, name))

    def __setattr__(self, name: str, value: Any) -> None:
        module: Any = self.__module
        setattr(module, name, value)
        self.__substitution.assigned(module, name, getattr(module, name) if isinstance(module, View) else value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__module, name)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Module) and vars(self) is vars(other)

    def __hash__(self) -> int:
        return hash(self.__module)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Have the module itself copied and saved."""
        return self.__module.__reduce_ex__(protocol)

    @property
    def _modules(self) -> Mapping[str, Any]:
        return _Children(self.__substitution, self.__module._modules)

    @property
    def _compiled_call_impl(self) -> None:
        """Of `Module.compile`: it would run the module itself."""


class _RecurrentView(View):
    """The view of a layer that keeps a list of its weights."""

    __slots__ = ()

    @property
    def _flat_weights(self) -> list[torch.Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    def _update_flat_weights(self) -> None:
        """Leave the layer's own list unchanged."""


class _Children(Mapping[str, Any]):
    """The children of a module, as views."""

    def __init__(self, substitution: Substitution, children: Mapping[str, Module | None]) -> None:
        self._substitution, self._children = substitution, children

    def __getitem__(self, name: str) -> Any:
        return self._substitution.seen(self._children[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    def values(self) -> Any:  # much faster than by name
        return [self._substitution.seen(child) for child in self._children.values()]


@functools.lru_cache(256)  # bounded: a parametrized module has a class of its own, which must not live forever
def _class_of(kind: Any, names: frozenset[str]) -> type:
    """Return the class of the views of a class's instances that replace attributes of these names."""
    body: dict[str, Any] = {name: _attribute(name) for name in names}
    body |= {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    base = _RecurrentView if issubclass(kind, RNNBase) else View
    made: type = type(kind)(kind.__name__, (base, kind), body)
    return made


def _attribute(name: str) -> property:
    return property(lambda view: view._View__substitution.read(view._View__module, name))
