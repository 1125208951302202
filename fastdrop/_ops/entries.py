"""The functions that public functions hand their arguments to: `fastdrop.explain` counts calls there.

While it does, the modules that call one find another in its place. Dynamo looks through that: what it inlines, and what
its guards compare, is the function under `_torchdynamo_inline`. So compiled code is not compiled again for it.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

ENTRIES: Final[dict[Any, str]] = {}  # the name that calls of each are counted under; "": its variant's


def entry(name: str = "") -> Callable[[Function], Function]:
    """Decorate a function whose calls are dropout calls: its first tensor drops, its arguments `training` and p rule."""

    def decorate(function: Function) -> Function:
        vars(function)["_torchdynamo_inline"] = function
        ENTRIES[function] = name
        return function

    return decorate
