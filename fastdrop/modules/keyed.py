"""Base classes and names that the dropout modules share."""

from typing import Any, Final

import torch
from torch.nn.modules.dropout import _DropoutNd

from fastdrop._keys.arguments import check_generator
from fastdrop._keys.key import Seed

# Tracers of torch.fx treat a module as a leaf, which keeps its train() and eval(), if its `__module__` begins with
# torch.nn. They read it from the object, so the class, and whatever depends on it, keeps its own `__module__`.
LEAF: Final = "torch.nn, by fastdrop"


class Keyed(torch.nn.Module):
    """A module that drops elements in training, with seeds from a generator or with the key that a call is given."""

    drops_in_training = True  # of all classes whose `training` decides nothing but whether elements are dropped
    generator: torch.Generator | None = None  # of the class, so that `replace` finds nothing missing

    def __init__(self) -> None:
        super().__init__()
        self.__module__ = LEAF

    def key(self, seed: Seed | None, offset: int) -> dict[str, Any]:
        """Return the key as keyword arguments of a function; with a given seed the generator is not used."""
        return {"seed": seed, "offset": offset, "generator": self.generator if seed is None else None}


class KeyedDropoutNd(_DropoutNd, Keyed):
    """The constructor of torch's dropout modules with a generator; a base next to one of torch's classes."""

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: torch.Generator | None = None) -> None:
        super().__init__(p, inplace)
        self.generator = check_generator(generator)


class Default(float):
    """An argument's default, distinguishable from an equal number that is given."""


def one_of(**names: float | None) -> float:
    """Return an argument that is given under one of its two names, or its default."""
    values = [value for value in names.values() if value is not None]
    given = [value for value in values if not isinstance(value, Default)]
    if len(given) > 1:
        raise TypeError(f"{' and '.join(names)} are names of one argument, but got both")
    if not values:
        raise TypeError(f"missing 1 required argument: {' or '.join(names)}")
    return given[0] if given else float(values[0])


def second_name(first: str) -> Any:
    """Return a property that is another name of an attribute."""
    return property(lambda module: getattr(module, first), lambda module, value: setattr(module, first, value))
