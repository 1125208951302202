"""The weights of a module, and where they are used."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.nn import Module, ModuleDict

from fastdrop._ops.modes import is_compiling
from fastdrop.modules.wrapper import unwrapped

RECURRENT: Final = (torch.nn.RNNBase, torch.nn.RNNCellBase)
INGREDIENTS: Final = ("_orig", "_g", "_v")  # from which torch's pruning, spectral and weight norm compute `weight`


class Weight(NamedTuple):
    """A weight where it is used."""

    path: str  # its name in the whole module
    owner: Module
    name: str  # in its owner
    value: torch.Tensor | None  # None: it is computed, by a parametrization or by a hook before each forward


def weights_of(module: Module, names: Any) -> list[Weight]:
    """Return the named weights of a module, each once, or for None the default ones; there has to be one."""
    if names is None:
        found = default_weights(module)
    elif not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(n, str) for n in names):
        raise TypeError(f"weights has to be a sequence of names of parameters, but got {names!r}")
    else:
        found = [_weight_of(module, path) for path in dict.fromkeys(names)]
    if not found:
        raise ValueError(f"nothing to drop in {type(module).__name__}: name some of its parameters, {_names(module)}")
    return found


def default_weights(module: Module) -> list[Weight]:
    """Return a module's weights of two dimensions or more, each once; of recurrent layers the recurrent ones."""
    found: dict[str, Weight] = {}
    _add_default(module, "", found, set())
    return list(found.values())


def _weight_of(module: Module, path: str) -> Weight:
    """Return a module's weight by its name."""
    prefix, _, name = path.rpartition(".")
    try:
        owner = unwrapped(module.get_submodule(prefix))
        if name in _parametrizations(owner):
            return Weight(path, owner, name, None)
        value = getattr(owner, name)
    except AttributeError:
        value = None
    if not isinstance(value, torch.Tensor) or name in owner._buffers:
        raise ValueError(f"weights has to name parameters of the module, {_names(module)}, but got {path!r}")
    is_parameter = name in owner._parameters or isinstance(value, torch.nn.Parameter)
    return Weight(path, owner, name, value if is_parameter else None)


def _names(module: Module) -> list[str]:
    return [name for name, _ in module.named_parameters(remove_duplicate=False)]


def _add_default(module: Module, prefix: str, found: dict[str, Weight], memo: set[int]) -> None:
    owner = unwrapped(module)
    if id(owner) in memo:
        return
    memo.add(id(owner))
    parametrizations = _parametrizations(owner)
    for name, parameter in owner._parameters.items():
        if "weight" in name and _counts(owner, name, parameter, memo):
            whole = name.rpartition("_")[0] if name.endswith(INGREDIENTS) else name
            # Dynamo warns if it traces such a read; it has no views of modules, and leaves this to Python.
            is_computed = whole != name and (is_compiling() or whole in vars(owner))
            name = whole if is_computed else name
            found[prefix + name] = Weight(prefix + name, owner, name, None if is_computed else getattr(owner, name))
    for name, originals in parametrizations.items():
        if "weight" in name and any(_counts(owner, name, one, memo) for one in originals.parameters(recurse=False)):
            found[prefix + name] = Weight(prefix + name, owner, name, None)
    for name, child in owner._modules.items():
        if child is not None and child is not parametrizations:
            _add_default(child, f"{prefix}{name}.", found, memo)


def _counts(owner: Module, name: str, parameter: torch.Tensor | None, memo: set[int]) -> bool:
    """Return whether a parameter, or what is computed from it, is dropped by default."""
    if parameter is None or parameter.dim() < 2 or id(parameter) in memo:
        return False
    memo.add(id(parameter))  # a tied one has several names
    return "weight_hh" in name or not isinstance(owner, RECURRENT)


def _parametrizations(owner: Module) -> Any:
    """Return the parametrizations of a module's tensors by name, as `torch.nn.utils.parametrize` registers them."""
    children = owner._modules
    parametrizations = children["parametrizations"] if "parametrizations" in children else None  # noqa: SIM401  # scripted
    return parametrizations if isinstance(parametrizations, ModuleDict) else {}
