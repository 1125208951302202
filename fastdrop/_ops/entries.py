"""The functions that public functions hand their arguments to: `fastdrop.explain` counts calls there.

While it does, the modules that call one find another in its place. Dynamo inlines what it finds under
`_torchdynamo_inline` of either, and its guards compare that: so compiled code is not compiled again for it.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

INLINED: Final = "_torchdynamo_inline"
ENTRIES: Final[dict[Any, str]] = {}  # the name that calls of each are counted under; "": its variant's


def entry(name: str = "") -> Callable[[Function], Function]:
    """Decorate a function whose calls are dropout calls: of its first tensor, at a p, and always or if `training`."""

    def decorate(function: Function) -> Function:
        assert isinstance(function, FunctionType)
        twin = FunctionType(function.__code__, function.__globals__)  # Dynamo would look into the same one for ever
        vars(function)[INLINED] = twin
        ENTRIES[function] = name
        return function

    return decorate
