"""Inductor's lowerings of our operators: it is to call them as they are.

It would do so by itself, but not where `torch._inductor.config.implicit_fallbacks` is off.
"""

import sys
from typing import Any, Final

OPERATORS: Final[list[Any]] = []  # of torch.library, that Inductor does not know yet


def announce() -> None:
    """Tell Inductor of the operators if it has been imported, which importing fastdrop is not to do.

    It has been where it compiles: a fake tensor then runs through each operator before Inductor asks for its lowering.
    """
    lowering: Any = sys.modules.get("torch._inductor.lowering")
    if OPERATORS and hasattr(lowering, "make_fallback"):
        for operator in OPERATORS:
            if operator not in lowering.lowerings:  # a user may have written one
                lowering.make_fallback(operator, warn=False)
        OPERATORS.clear()
