"""Dropout calls counted where the router decides on them, by what stands in place of its functions meanwhile.

Nothing is decided here. The router's questions are asked as always, and the last one with an unusual answer is why a
call went its way; who computed it is who was seen to. Functions are replaced only where Dynamo does not read them, or
where it looks through that: see entries.py. Where no block is open, all of them are the original ones.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from fastdrop._devices import kernels
from fastdrop._devices.kernels import why_no_kernel
from fastdrop._keys import checkpoints
from fastdrop._ops import autograd, decompose, dispatch, draws, fallback, join, layout, library
from fastdrop._ops.entries import ENTRIES, INLINED
from fastdrop._patch import aten, calls, install
from fastdrop._patch.calls import Given, Totals, count, current, lock

Function = Callable[..., Any]

_replaced: Final[list[tuple[Any, str, Function]]] = []  # module, name, original


def begin(totals: Totals) -> None:
    """Add all dropout calls of the process to these totals from now on."""
    with lock:
        calls.counts.append(totals)
        if not _replaced:
            install.ensure_overridden(aten.OPERATORS)
            for module, name, counting in (*_entries(), *PLACES):
                original = getattr(module, name)
                _replaced.append((module, name, original))
                setattr(module, name, counting(original))
            for count_native in aten.NATIVES:
                count_native(_counted_native)


def end(totals: Totals) -> None:
    """Leave these totals as they are; the last to do so puts all functions back."""
    with lock:
        calls.counts[:] = [each for each in calls.counts if each is not totals]
        if not calls.counts:
            for count_native in aten.NATIVES:
                count_native(None)
            while _replaced:
                setattr(*_replaced.pop())


def _entries() -> list[tuple[Any, str, Callable[[Function], Function]]]:
    """Return where in fastdrop's modules the functions are that dropout calls go through."""
    ours = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "fastdrop"]
    return [
        (module, name, _counted_override if module is aten else _counted_entry)
        for module in ours
        for name, value in list(vars(module).items())
        if inspect.isfunction(value) and value in ENTRIES
    ]


def _counted_entry(function: Function, named: Callable[[dict[str, Any]], str] | None = None) -> Function:
    """Return a function that dropout calls go through, which counts them."""
    signature = inspect.signature(function)

    def counted(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        x = next((each for each in given.values() if isinstance(each, torch.Tensor)), None)
        p = given["parameter"] if "parameter" in given else given["p"]
        name = named(given) if named else f"fastdrop.{ENTRIES[function] or given['variant'].name}"
        formula = given["variant"].formula if function in KEEP_NOTHING else ""
        call = Given(name, x, p, given.get("training", True), formula, given.get("noise_shape"))
        return count(call, partial(function, *args, **kwargs))

    vars(counted)[INLINED] = vars(function)[INLINED]
    return counted


def _counted_override(function: Function) -> Function:
    """Return the router as overrides of torch's operators call it, counted under their names."""
    return _counted_entry(function, lambda given: f"torch.{given['variant'].operator}{'_' if given['inplace'] else ''}")


def _counted_native(name: str, native: Function, why: Callable[..., str]) -> Function:
    """Return torch's own kernel of an operator, counted where an override calls it at once."""

    def counted(x: torch.Tensor, p: float, train: bool | None) -> Any:
        given = Given(f"torch.{name}", x, p, train is not False)
        return count(given, partial(native, x, p, train), partial(why, x, p, train))

    return counted


def _counted_native_dropout(override: Function) -> Function:
    """Return `aten.override`, which is called at each call of this operator, with that counted."""

    def overriding(name: str, native: Function, enabled: Any) -> Function:
        kernel: Function = override(name, native, enabled)
        if name != aten.NATIVE_DROPOUT:
            return kernel
        return _counted_native(name, kernel, partial(aten.why_native, name, enabled))

    return overriding


def _asked(question: Function, unusual: bool, reason: Callable[..., str]) -> Function:
    """Return a question of the router's, noted where its answer is unusual."""

    def ask(*args: Any) -> Any:
        answer = question(*args)
        if (seen := current()) is not None and bool(answer) is unusual:
            seen.reason = reason(*args)
        return answer

    return ask


def _launched(launch: Function) -> Function:
    """Return a kernel's launch, noted with the device of what it reads."""

    def launching(*args: Any, **kwargs: Any) -> Any:
        done = launch(*args, **kwargs)
        if (seen := current()) is not None and done is not False:
            x = next(each for each in args if isinstance(each, torch.Tensor))
            seen.computed_by = f"{'CPU' if x.is_cpu else 'CUDA'} kernel"
        return done

    return launching


def _masked(mask: Function) -> Function:
    """Return what makes a mask, which is torch's to apply if no kernel is seen to."""

    def masking(*args: Any, **kwargs: Any) -> Any:
        if (seen := current()) is not None:
            seen.computed_by = seen.computed_by or calls.TORCH_SAME_MASK
        return mask(*args, **kwargs)

    return masking


def _operator(compute: Function, computed_by: str) -> Function:
    """Return what computes a formula; in no call and no backward, it is a graph's operator that runs."""

    def computing(formula: str, x: torch.Tensor, key: Any) -> Any:
        if (seen := current()) is not None:
            seen.computed_by = computed_by
        elif not checkpoints.in_backward():
            name = "fastdrop::dropout" + ("" if formula == "dropout" else f" ({formula})")
            calls.add(name, calls.OPERATOR, "compiled code", x.numel())
        return compute(formula, x, key)

    return computing


KEEP_NOTHING: Final = (dispatch.call, dispatch.route, join.join)  # for the backward
_no_kernel: Final = partial(_asked, unusual=False, reason=why_no_kernel)
_mode: Final = partial(_asked, unusual=True, reason=lambda: "dispatch mode")
_trace: Final = partial(_asked, unusual=True, reason=lambda: "torch.jit.trace")
PLACES: Final[tuple[tuple[Any, str, Callable[[Function], Function]], ...]] = (
    (dispatch, "has_kernel", _no_kernel),
    (dispatch, "dispatch_modes", _mode),
    (dispatch, "trace", _trace),
    (dispatch, "in_transform", partial(_asked, unusual=True, reason=lambda: "torch.func transform")),
    (fallback, "is_exported", partial(_asked, unusual=True, reason=lambda: "traced or exported")),
    (autograd, "has_kernel", _no_kernel),
    (autograd, "dispatch_modes", _mode),
    (autograd, "trace", _trace),
    (aten, "has_kernel", _no_kernel),
    (aten, "override", _counted_native_dropout),
    (layout, "launch", _launched),
    (join, "launch", _launched),
    (kernels, "masked_scale", _launched),
    (draws, "mask", _masked),
    (decompose, "run", partial(_operator, computed_by=calls.TORCH_SAME_MASK)),
    (library, "compute", partial(_operator, computed_by="")),
)
