"""What torch's compiler is not to look into.

A backward or an override can be called by torch's C++ while a compiled function runs, behind a break of its graph. The
compiler would then compile it like a function of the user's, and warn of what it does not know in there.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch._C._dynamo import eval_frame

Thing = TypeVar("Thing")
Function = TypeVar("Function", bound=Callable[..., Any])

_skip: Any = eval_frame._FrameAction.SKIP
_strategy: Any = eval_frame._FrameExecStrategy(_skip, _skip)  # of the function, and of all that it calls


def dynamo_skip(thing: Thing) -> Thing:
    """Decorate a function, or a class with static methods, that the compiler is to run as it is."""
    functions = [thing] if inspect.isfunction(thing) else [getattr(thing, name) for name in vars(thing)]
    for function in filter(inspect.isfunction, functions):
        eval_frame.set_code_exec_strategy(function.__code__, _strategy)
    return thing


def assume_constant_result(function: Function) -> Function:
    """Decorate a function that the compiler calls once, as `torch.compiler.assume_constant_result` does.

    Torch's imports Dynamo, which takes longer than torch itself, in programs that never compile too.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
