"""Dropout that stays on at inference: which modules of a model drop, and their flags."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import Module
from torch.nn.modules.dropout import _DropoutNd

from fastdrop._replace import _modules_of

__all__ = ["Named", "mc_dropout"]

Named = type[Module] | Module  # how a caller names modules: by their class, or themselves


@contextlib.contextmanager
def mc_dropout(model: Module, *, modules: Sequence[Named] = ()) -> Iterator[None]:
    """Keep dropout, and dropout only, active for the length of a block; after it each module is as it was.

    Inside, `training` is True for the modules that drop and False for all others, BatchNorm among them, whatever
    mode the model was in. Those that drop are the dropout classes of torch and fastdrop with their subclasses,
    MultiheadAttention and recurrent layers with dropout > 0, and what `modules` names. `TransformerEncoderLayer` is in
    training too: it does nothing else there but leave out its fused path for inference, which has no dropout.

    Parameters
    ----------
    model : torch.nn.Module
        It and all modules in it are looked at.
    modules : tuple or list of classes and modules
        Further ones that drop: other libraries' classes, or single modules of the model.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module, or modules is no tuple or list of such and their classes.
    ValueError
        If nothing in the model drops, or something in modules is not in the model.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), fastdrop.Dropout(0.5)).eval()
    >>> with fastdrop.mc_dropout(model):
    ...     [module.training for module in model]
    [False, True]
    >>> [module.training for module in model]
    [False, False]

    Notes
    -----
    Calls of `torch.nn.functional.dropout(x, p, self.training)` in a model's own code cannot be seen: name the class
    that makes them in `modules`. Only the flags of the objects are set, `train()` and `eval()` are not called, so
    nothing else that a class does there happens. A traced model drops or not as it did when it was traced.
    """
    flags = _flags(model, modules)
    before = [module.training for module, _ in flags]
    try:
        for module, training in flags:
            module.training = training
        yield
    finally:
        for (module, _), training in zip(flags, before, strict=True):
            module.training = training


def _flags(model: Module, modules: Sequence[Named]) -> list[tuple[Module, bool]]:
    """Return the modules of a model, each with what its `training` is to be."""
    present = [module for module in _modules_of(model).values() if hasattr(module, "training")]  # frozen ones have none
    _check_named(modules)
    for entry in modules:
        if not any(_named(module, entry) for module in present):
            raise ValueError(f"modules has to name what is in the model, but got {entry!r}, which is not")
    drops = [_drops(module) or any(_named(module, entry) for entry in modules) for module in present]
    if not any(drops):
        raise ValueError(
            "model has to have a module that drops elements, but got none of torch's or fastdrop's dropout classes, no "
            "MultiheadAttention or recurrent layer with dropout > 0; others can be named with modules="
        )
    return [
        (module, flag or issubclass(_class_of(module), torch.nn.TransformerEncoderLayer))
        for module, flag in zip(present, drops, strict=True)
    ]


def _check_named(modules: Any) -> None:
    """Raise where modules= is no tuple or list of modules and classes; a Sequential is a module, not a list."""
    if not isinstance(modules, tuple | list) or not all(isinstance(m, Module) or _is_class(m) for m in modules):
        raise TypeError(f"modules has to be a tuple or list of modules or classes of them, but got {modules!r}")


def _is_class(entry: Any) -> bool:
    return isinstance(entry, type) and issubclass(entry, Module)


def _named(module: Module, entry: Named) -> bool:
    return isinstance(module, entry) if isinstance(entry, type) else module is entry


def _drops(module: Module) -> bool:
    """Return whether the module is known to drop elements while its `training` is True."""
    kind = _class_of(module)
    if issubclass(kind, torch.nn.MultiheadAttention | torch.nn.RNNBase):
        p = getattr(module, "dropout", 0)
        return isinstance(p, float | int) and p > 0  # a subclass may have put a module there, which is looked at itself
    return issubclass(kind, _DropoutNd) or getattr(kind, "drops_in_training", False)


def _class_of(module: Module) -> type[Module]:
    """Return a module's class; for a scripted one, which has the name of its class only, torch's of that name."""
    if isinstance(module, torch.jit.ScriptModule):
        kind: type[Module] = getattr(torch.nn, module.original_name, Module)
        return kind
    return type(module)
