"""What the modules of the family share."""

from typing import Any, Final

import torch
from torch.nn.modules.dropout import _DropoutNd

from fastdrop._keys.arguments import check_generator
from fastdrop._keys.key import Seed

# Tracers of torch.fx take a module as a whole, and so leave it its train() and eval(), if its `__module__` begins with
# torch.nn, and ask for nothing else. They ask the object, so its class, and all that goes by that, keeps its name.
LEAF: Final = "torch.nn, by fastdrop"


class Keyed(torch.nn.Module):
    """A module that drops elements in training, by seeds of a generator or by a key that its call is given."""

    drops_in_training = True  # of all classes whose `training` decides nothing but whether elements are dropped
    generator: torch.Generator | None = None  # of the class, so that `replace` finds nothing missing

    def __init__(self) -> None:
        super().__init__()
        self.__module__ = LEAF

    def key(self, seed: Seed | None, offset: int) -> dict[str, Any]:
        """Return the keywords that a functional takes a key by; a given seed excludes the generator."""
        return {"seed": seed, "offset": offset, "generator": self.generator if seed is None else None}


class KeyedDropoutNd(_DropoutNd, Keyed):
    """What torch's dropout modules take, and a generator; a base besides the class of torch's that it is for."""

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: torch.Generator | None = None) -> None:
        super().__init__(p, inplace)
        self.generator = check_generator(generator)


class Default(float):
    """A number that is an argument's default, and can be told from the same number given."""


def one_of(**names: float | None) -> float:
    """Return the argument that is given under one of its two names, or its default."""
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
