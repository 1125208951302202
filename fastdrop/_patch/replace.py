"""The dropout modules of one model, swapped for ours and back."""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

import torch
from torch.nn.modules.dropout import _DropoutNd

from fastdrop import modules
from fastdrop._keys.arguments import shown
from fastdrop._ops.variants import VARIANTS
from fastdrop.modules.keyed import LEAF

__all__ = ["Report", "replace", "restore"]

REPLACEMENTS: Final[dict[type[torch.nn.Module], type[torch.nn.Module]]] = {
    getattr(torch.nn, name): getattr(modules, name) for variant in VARIANTS for name in variant.modules
}
"""What objects of exactly this class become; what their new class has more is a default of that class."""

MARK: Final = "_class_before_replace"  # an attribute of the module, so that copies and pickles keep it


class Report(NamedTuple):
    """What `replace` or `restore` did to a model; `print` shows it a module a line.

    Names are those of `model.named_modules()`: a module shared under several names has its first, the model itself "".

    Attributes
    ----------
    swapped : list of str
        Names of the modules whose class was changed by this call.
    left : dict of str to type
        Names and classes of the others that drop elements (`replace`), or that stay replaced (`restore`).
    """

    swapped: list[str]
    left: dict[str, type[torch.nn.Module]]

    def __str__(self) -> str:
        swapped = [_shown(name) for name in self.swapped]
        left = [f"{_shown(name)}: {kind.__module__}.{kind.__qualname__}" for name, kind in self.left.items()]
        lists = {"swapped": swapped, "left": left}
        return "\n".join("\n  ".join([f"{title}: {len(lines)}", *lines]) for title, lines in lists.items())


def replace(model: torch.nn.Module) -> Report:
    """Make every dropout module of torch.nn in a model fastdrop's of the same name, in place.

    These are Dropout, Dropout1d, Dropout2d, Dropout3d, AlphaDropout and FeatureAlphaDropout.

    The objects stay and only their class changes: names, state_dict keys, hooks, `training`, `p` and shared references
    are as before. A second call finds nothing more to swap. `restore` undoes it.

    Parameters
    ----------
    model : torch.nn.Module
        It and all modules in it are looked at, through wrappers such as DistributedDataParallel and torch.compile's.
        What is compiled already compiles itself again.

    Returns
    -------
    Report
        `swapped` has the modules swapped by this call. `left` has those that go on dropping with torch's kernels:
        subclasses of torch's dropout classes, scripted ones, and attention and recurrent layers with dropout > 0, which
        have it inside. `fastdrop.install()` reaches these too.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module.

    Examples
    --------
    >>> model = torch.nn.TransformerEncoderLayer(8, 2)
    >>> print(fastdrop.replace(model))
    swapped: 3
      dropout
      dropout1
      dropout2
    left: 1
      self_attn: torch.nn.modules.activation.MultiheadAttention

    Notes
    -----
    Calls of `torch.nn.functional.dropout` and its like in a model's own code cannot be seen, and are in no report. A
    module with a `forward` set on the object is left, as its class would not count.

    Do `torch.jit.script` before, or after `restore`: it knows torch's own classes only. Tools that look modules up by
    their exact class do not know a replaced one either: `restore` first. In `torch.fx` graphs replaced modules are
    leaves, as torch's are, and exported programs hold torch's own operators.
    A whole model that was pickled replaced needs fastdrop to be loaded; its state_dict does not.
    """
    modules = _modules_of(model)
    swapped = {name: module for name, module in modules.items() if _is_plain(module, REPLACEMENTS)}
    for module in swapped.values():
        vars(module).update({MARK: type(module), "__module__": LEAF})
        module.__class__ = REPLACEMENTS[type(module)]
    return Report(list(swapped), {name: type(module) for name, module in modules.items() if _drops_natively(module)})


def restore(model: torch.nn.Module) -> Report:
    """Give the modules that `replace` swapped in a model the class they had, in place.

    A module that was built as fastdrop's stays. Copies and pickles of a replaced model can be restored too.

    Parameters
    ----------
    model : torch.nn.Module
        It and all modules in it are looked at.

    Returns
    -------
    Report
        `swapped` has the modules swapped back by this call. `left` has those that `replace` swapped and that stay, as
        their class or their `forward` was changed since.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.1), fastdrop.Dropout(0.1))
    >>> fastdrop.replace(model).swapped
    ['0']
    >>> fastdrop.restore(model).swapped
    ['0']
    """
    replaced = {name: module for name, module in _modules_of(model).items() if MARK in vars(module)}
    swapped = {name: module for name, module in replaced.items() if _is_plain(module, REPLACEMENTS.values())}
    for module in swapped.values():
        module.__class__ = vars(module).pop(MARK)
        vars(module).pop("__module__", None)  # of those that an earlier version replaced there is none
    return Report(list(swapped), {name: type(module) for name, module in replaced.items() if name not in swapped})


def _modules_of(model: Any) -> dict[str, torch.nn.Module]:
    """Return the model's modules by name, each once."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model has to be a torch.nn.Module, but got {shown(model)}")
    return dict(model.named_modules())


def _is_plain(module: torch.nn.Module, classes: Collection[type[torch.nn.Module]]) -> bool:
    """Return whether the module is of exactly one of these classes, and does what its class says."""
    return type(module) in classes and "forward" not in vars(module)  # accelerate, for one, sets it on the object


def _drops_natively(module: torch.nn.Module) -> bool:
    """Return whether the module is known to drop elements, in torch's way."""
    if isinstance(module, torch.jit.ScriptModule):
        return module.original_name in torch.nn.modules.dropout.__all__
    if isinstance(module, torch.nn.MultiheadAttention | torch.nn.RNNBase):
        p = module.dropout
        return isinstance(p, float | int) and p > 0  # a subclass may have put a module there, which has its own name
    return isinstance(module, _DropoutNd) and not isinstance(module, tuple(REPLACEMENTS.values()))


def _shown(name: str) -> str:
    return name or "(the model itself)"
