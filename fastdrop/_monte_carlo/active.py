"""Dropout that stays on at inference: which modules of a model drop, and their flags."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch.nn import Module
from torch.nn.modules.dropout import _DropoutNd

from fastdrop._keys.arguments import NUMBERS, shown
from fastdrop._monte_carlo import training_flags
from fastdrop._patch.replace import _modules_of

__all__ = ["Named", "mc_dropout"]

Named = type[Module] | Module  # how a caller names modules: by their class, or themselves

FOREIGN: Final = (
    "DropPath",
    "StochasticDepth",
    "DropBlock2d",
    "DropBlock3d",
    "PatchDropout",
    "PatchDropoutWithIndices",
)
"""Suffixes of class names of other libraries (timm, torchvision, transformers), which need not be installed."""

AMOUNTS: Final = ("p", "drop_prob", "rate", "std", "prob")  # attributes that say how much is dropped


@contextlib.contextmanager
def mc_dropout(model: Module, *, modules: Sequence[Named] = ()) -> Iterator[None]:
    """Keep dropout, and dropout only, active for the length of a block; after it each module is as it was.

    Inside, `training` is True for the modules that drop and False for all others, BatchNorm among them, whatever
    mode the model was in. Those that drop are the dropout classes of torch and fastdrop with their subclasses;
    MultiheadAttention and recurrent layers with dropout > 0; DropPath, StochasticDepth, DropBlock and PatchDropout of
    timm and torchvision, and other libraries' classes with names that end so (`SwinDropPath`); and what `modules`
    names. `TransformerEncoderLayer` is in training too: it does nothing else there but leave out its fused path for
    inference, which has no dropout.

    Blocks may overlap, nested or not, in one thread or in several: a module's flag is what the newest block that has
    not ended wants, and what it was before the first one when the last has ended, whatever was set in between.

    Parameters
    ----------
    model : torch.nn.Module
        The model; all modules in it are examined.
    modules : tuple or list of classes and modules
        Further ones that drop: other libraries' classes, or single modules of the model.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module, or modules is no tuple or list of such and their classes.
    ValueError
        If nothing in the model drops with p > 0, or something in modules is not in the model.
    RuntimeError
        If another thread is in a block that wants another flag of the same module.

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

    The flags are the model's: another thread that runs it meanwhile drops too. What is added to the model inside a
    block keeps its own flag.
    """
    with training_flags.holding(_flags(model, modules)):
        yield


def _flags(model: Module, modules: Sequence[Named]) -> list[tuple[Module, bool]]:
    """Return the modules of a model, each with the value that `training` is to have."""
    present = [module for module in _modules_of(model).values() if _has_a_flag(module)]
    _check_named(modules)
    for entry in modules:
        if not any(_named(module, entry) for module in present):
            raise ValueError(f"modules has to name what is in the model, but got {shown(entry)}, which is not")
    named = [any(_named(module, entry) for entry in modules) for module in present]
    known = [_drops(module) for module in present]
    if not any(named) and not any(drops and _is_on(module) for module, drops in zip(present, known, strict=True)):
        raise ValueError(
            "model has to have a module that drops elements with p > 0, but among the dropout classes of torch and "
            "fastdrop, DropPath, StochasticDepth, DropBlock, MultiheadAttention and recurrent layers it has "
            f"{'some with p = 0 only' if any(known) else 'none'}; name modules of other classes with modules="
        )
    drops = [one or other for one, other in zip(named, known, strict=True)]
    return [
        (module, flag or issubclass(_class_of(module), torch.nn.TransformerEncoderLayer))
        for module, flag in zip(present, drops, strict=True)
    ]


def _check_named(modules: Any) -> None:
    """Raise where modules= is no tuple or list of modules and classes; a Sequential is a module, not a list."""
    if not isinstance(modules, tuple | list) or not all(isinstance(m, Module) or _is_class(m) for m in modules):
        raise TypeError(f"modules has to be a tuple or list of modules or classes of them, but got {shown(modules)}")


def _is_class(entry: Any) -> bool:
    return isinstance(entry, type) and issubclass(entry, Module)


def _has_a_flag(module: Module) -> bool:
    """Return whether a module has its own flag: frozen ones have none, and torch.compile's wrapper has its module's."""
    return hasattr(module, "training") and not hasattr(module, "_orig_mod")


def _named(module: Module, entry: Named) -> bool:
    return isinstance(module, entry) if isinstance(entry, type) else module is getattr(entry, "_orig_mod", entry)


def _is_on(module: Module) -> bool:
    """Return whether a module that drops has p > 0, as far as its attributes tell."""
    for amount in (getattr(module, name, None) for name in AMOUNTS):
        if isinstance(amount, NUMBERS) or (isinstance(amount, torch.Tensor) and amount.numel() == 1):
            return bool(amount > 0)
    return True


def _drops(module: Module) -> bool:
    """Return whether the module is of a class that is known to drop elements while its `training` is True."""
    kind = _class_of(module)
    if issubclass(kind, torch.nn.MultiheadAttention | torch.nn.RNNBase):
        p = getattr(module, "dropout", 0)  # a subclass may have a module there, which is examined itself
        return isinstance(p, float | int) and p > 0 and getattr(module, "num_layers", 2) > 1
    if issubclass(kind, _DropoutNd) or getattr(kind, "drops_in_training", False):
        return True
    return any(base.__name__.endswith(FOREIGN) for base in kind.__mro__) and any(hasattr(module, a) for a in AMOUNTS)


def _class_of(module: Module) -> type[Module]:
    """Return a module's class; for a scripted one, which has the name of its class only, torch's of that name."""
    if isinstance(module, torch.jit.ScriptModule):
        kind: type[Module] = getattr(torch.nn, module.original_name, Module)
        return kind
    return type(module)
